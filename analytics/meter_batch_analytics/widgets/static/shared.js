// What all widgets share. Every widget's module is this file and its own, so that it needs nothing else.

/** Values as Python sent them, with its arrays of bytes as typed arrays (nested ones for two dimensions). */
function revive(value) {
  if (Array.isArray(value)) return value.map(revive);
  if (value === null || typeof value !== "object" || value instanceof DataView) return value;
  if (!value.$array) return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, revive(one)]));
  const kinds = { float64: Float64Array, float32: Float32Array, int32: Int32Array };
  const { buffer, byteOffset, byteLength } = value.bytes;
  const flat = new kinds[value.$array](buffer.slice(byteOffset, byteOffset + byteLength));
  const wide = value.shape[1];
  return wide === undefined ? flat : Array.from({ length: value.shape[0] }, (_, row) => flat.subarray(row * wide, (row + 1) * wide));
}

/** An element with properties, attributes (where there is no such property) and children. */
function make(tag, properties = {}, ...children) {
  const found = document.createElement(tag);
  for (const [key, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) found.addEventListener(key.slice(2), value);
    else if (key === "class") found.className = value;
    else if (key === "style") found.style.cssText = value;
    else if (key in found && typeof value !== "string") found[key] = value;
    else found.setAttribute(key, value === true ? "" : value);
  }
  found.append(...children.flat().filter((one) => one !== null && one !== undefined && one !== false));
  return found;
}

/** A picture of 24 × 24 drawn with the colour of the text around it. */
function icon(name) {
  const paths = {
    down: "M6 9l6 6 6-6",
    check: "M5 12.5l4.5 4.5L19 7.5",
    minus: "M6 12h12",
    search: "M10.5 17a6.5 6.5 0 1 1 0-13 6.5 6.5 0 0 1 0 13zM15.5 15.5L20 20",
    close: "M6 6l12 12M18 6L6 18",
    calendar: "M4 6h16v14H4zM4 10.5h16M8 3.5V8M16 3.5V8",
    points: "M4 6h16M4 12h16M4 18h10",
    download: "M12 4v11M7 10.5l5 5 5-5M5 20h14",
    refresh: "M19.5 12a7.5 7.5 0 1 1-2.2-5.3L20 9.4M20 4v5.4h-5.4",
    picture: "M4 5h16v14H4zM4 16l5-5 4 4 2.5-2.5L20 17M15 9.5h.01",
    table: "M4 5h16v14H4zM4 10h16M10 10v9",
    info: "M12 21a9 9 0 1 1 0-18 9 9 0 0 1 0 18zM12 11v5.5M12 7.5h.01",
    warning: "M12 4L2.8 20h18.4zM12 10v4.5M12 17.2h.01",
  };
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  const path = document.createElementNS(space, "path");
  for (const [key, value] of [["viewBox", "0 0 24 24"], ["width", "18"], ["height", "18"], ["aria-hidden", "true"], ["class", "mb-icon"]]) svg.setAttribute(key, value);
  for (const [key, value] of [["d", paths[name] || ""], ["fill", "none"], ["stroke", "currentColor"], ["stroke-width", "1.8"], ["stroke-linecap", "round"], ["stroke-linejoin", "round"]]) path.setAttribute(key, value);
  svg.append(path);
  return svg;
}

/** A word of the model's, with its facts put in. */
function say(model, key, facts = {}) {
  return (model.get("labels")[key] ?? key).replace(/\{(\w+)\}/g, (whole, name) => (name in facts ? facts[name] : whole));
}

/** A number as both languages write it: groups of three, a true minus. */
function digitsOf(value, digits = 0) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  const text = Number(value).toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  return text.startsWith("-") ? (/[1-9]/.test(text) ? "−" + text.slice(1) : text.slice(1)) : text;
}

/** The browser saves bytes under a name. */
function save(name, mime, bytes) {
  const address = URL.createObjectURL(new Blob([bytes], { type: mime }));
  const link = make("a", { href: address, download: name, hidden: true });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}

/** Every widget can hand a file to the browser: once for the model, however often it is shown. */
function takeFiles(model) {
  model.on("msg:custom", (content, buffers) => {
    if (content.kind === "file") save(content.name, content.mime, buffers[0]);
  });
}

/** Calls `draw` now and whenever one of the traits changes, once for changes that come together. */
function follow(model, traits, draw) {
  let waiting = false;
  const soon = () => {
    if (waiting) return;
    waiting = true;
    queueMicrotask(() => { waiting = false; draw(); });
  };
  for (const one of traits) model.on(`change:${one}`, soon);
  draw();
  return () => traits.forEach((one) => model.off(`change:${one}`, soon));
}
