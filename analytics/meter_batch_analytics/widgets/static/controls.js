/** A box that opens a panel below it: closed by Escape (as it was) or by a click elsewhere (as chosen). */
function opener(label, symbol, open) {
  const text = make("span", { class: "mb-box-text" });
  const box = make("button", { class: "mb-box", type: "button", "aria-haspopup": "dialog", "aria-expanded": "false" }, icon(symbol), text, icon("down"));
  const place = make("div", { style: "display:contents" });
  let panel = null, finish = null;

  function close(keep) {
    if (!panel) return;
    const over = finish;
    document.removeEventListener("pointerdown", outside, true);
    panel.remove();
    panel = null;
    box.setAttribute("aria-expanded", "false");
    over(keep);
  }
  function outside(event) {
    if (!event.composedPath().includes(panel) && !event.composedPath().includes(box)) close(true);
  }
  box.addEventListener("click", () => {
    if (panel) return close(true);
    panel = make("div", { class: "mb-panel", role: "dialog", "aria-label": label });
    finish = open(panel, (keep) => { close(keep); box.focus(); });
    panel.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      event.stopPropagation();
      close(false);
      box.focus();
    });
    panel.addEventListener("focusout", (event) => {
      if (panel && event.relatedTarget && !panel.contains(event.relatedTarget) && event.relatedTarget !== box) close(true);
    });
    place.append(panel);
    const { right } = panel.getBoundingClientRect();
    if (right > document.documentElement.clientWidth - 8) panel.dataset.end = "";
    box.setAttribute("aria-expanded", "true");
    document.addEventListener("pointerdown", outside, true);
    panel.querySelector("[data-focus]")?.focus();
  });
  return { box, place, text, close };
}

/** Points to choose from, in groups; hundreds are found by typing. */
function pointsField(model, field, change) {
  const name = () => field().label;
  const { box, place, text, close } = opener(name(), "points", open);
  let by = "group", unique = Math.random().toString(36).slice(2);

  function summary(chosen) {
    const options = field().options ?? [];
    const first = options.find((one) => one.value === chosen[0]);
    if (!chosen.length) return say(model, "no_points");
    if (chosen.length === options.length && chosen.length > 1) return say(model, "all_points", { n: digitsOf(chosen.length) });
    if (chosen.length === 1) return first?.label ?? chosen[0];
    const facts = { name: first?.label ?? chosen[0], n: model.get("language") === "en" ? chosen.length - 1 : chosen.length };
    return say(model, "some_points", facts);
  }

  function open(panel, done) {
    const options = field().options ?? [], most = field().most ?? Infinity;
    const before = model.get("values")[field().key] ?? [];
    const chosen = new Set(before), shut = new Set();
    const search = make("input", {
      type: "text", role: "combobox", "data-focus": true, spellcheck: false, autocomplete: "off", "aria-expanded": "true", "aria-autocomplete": "list",
      "aria-controls": `mb-${unique}`, placeholder: say(model, "search_points"), "aria-label": say(model, "search_points"),
    });
    const list = make("div", { class: "mb-list", role: "listbox", id: `mb-${unique}`, "aria-multiselectable": "true", "aria-label": name(), tabIndex: -1 });
    const count = make("span", { class: "mb-count", "aria-live": "polite" });
    const all = make("button", { class: "mb-button", type: "button", "data-style": "plain", onclick: () => choose(found, true) });
    const none = make("button", { class: "mb-button", type: "button", "data-style": "plain", onclick: () => choose(options.filter((one) => chosen.has(one.value)), false) }, say(model, "choose_none"));
    const lines = new Set(options.map((one) => one.line ?? "")).size;
    const grouping = lines > 1 && make("div", { class: "mb-segments", role: "radiogroup" }, ...[["group", "by_area"], ["line", "by_line"]].map(([key, word]) =>
      make("label", {}, make("input", { type: "radio", name: `mb-by-${unique}`, checked: by === key, onchange: () => { by = key; shutLong(); fill(); } }), say(model, word))));
    let found = options, rows = [], active = -1;

    function shutLong() {
      // of very many points only the groups are seen at first
      shut.clear();
      if (options.length > 60) for (const one of options) shut.add(one[by] ?? "");
    }

    function fill() {
      const words = search.value.trim().toLowerCase().split(/\s+/).filter(Boolean);
      const matches = (one) => { const all = `${one.label} ${one.group ?? ""} ${one.line ?? ""} ${one.value}`.toLowerCase(); return words.every((word) => all.includes(word)); };
      found = words.length ? options.filter(matches) : options;
      const groups = Map.groupBy(found, (one) => one[by] ?? "");
      const names = [...groups.keys()].sort((a, b) => (a === "") - (b === "") || a.localeCompare(b, model.get("language"), { numeric: true }));
      rows = [];
      for (const group of names) {
        const members = groups.get(group);
        const closed = !words.length && names.length > 1 && shut.has(group);
        if (names.length > 1 || group) rows.push({ group, members, closed, element: row(members, group || say(model, "no_area"), null, true) });
        if (!closed) for (const one of members) rows.push({ members: [one], element: row([one], one.label, one.virtual ? say(model, "virtual") : by === "group" ? one.line : one.group) });
      }
      list.replaceChildren(...(rows.length ? rows.map((one) => one.element) : [make("div", { class: "mb-none" }, say(model, "none_found"))]));
      rows.forEach((one, index) => {
        one.element.id = `mb-${unique}-${index}`;
        one.element.classList.toggle("mb-shut", Boolean(one.closed));
        one.element.addEventListener("click", (event) => {
          active = index;
          if (one.group !== undefined && !event.target.closest(".mb-tick")) fold(one);
          else toggle(one);
        });
      });
      active = Math.min(active, rows.length - 1);
      all.textContent = say(model, words.length ? "choose_found" : "choose_all");
      mark();
    }

    function row(members, label, aside, group = false) {
      return make("div", { class: group ? "mb-option mb-group" : "mb-option", role: "option", "aria-selected": "false" },
        make("span", { class: "mb-tick" }, icon("check"), icon("minus")), make("span", {}, label), make("small", {}, group ? "" : aside ?? ""), group && icon("down"));
    }

    function fold(one) {
      if (!shut.delete(one.group)) shut.add(one.group);
      const top = list.scrollTop;
      fill();
      list.scrollTop = top;
    }

    function toggle(one) {
      choose(one.members, !one.members.every((member) => chosen.has(member.value)));
    }

    function choose(members, on) {
      for (const one of members) {
        if (!on) chosen.delete(one.value);
        else if (chosen.size < most) chosen.add(one.value);
      }
      mark();
    }

    function mark() {
      for (const one of rows) {
        const n = one.members.filter((member) => chosen.has(member.value)).length;
        const state = n === 0 ? "false" : n === one.members.length ? "true" : "mixed";
        one.element.setAttribute("aria-checked", state);
        one.element.setAttribute("aria-selected", String(n > 0));
        if (one.group !== undefined) one.element.querySelector("small").textContent = `${n} / ${one.members.length}`;
      }
      rows.forEach((one, index) => one.element.classList.toggle("mb-active", index === active));
      if (active >= 0) search.setAttribute("aria-activedescendant", `mb-${unique}-${active}`);
      else search.removeAttribute("aria-activedescendant");
      count.textContent = chosen.size >= most ? say(model, "most_points", { n: most }) : say(model, "chosen_of", { n: digitsOf(chosen.size), all: digitsOf(options.length) });
    }

    function move(to) {
      active = Math.max(0, Math.min(rows.length - 1, to));
      mark();
      rows[active]?.element.scrollIntoView({ block: "nearest" });
    }

    search.addEventListener("input", () => { active = search.value ? 0 : -1; fill(); list.scrollTop = 0; });
    search.addEventListener("keydown", (event) => {
      const page = 9, keys = { ArrowDown: active + 1, ArrowUp: active - 1, PageDown: active + page, PageUp: active - page };
      if (event.key in keys) move(keys[event.key]);
      else if (event.key === "Enter" && (event.ctrlKey || event.metaKey || active < 0)) done(true);
      else if (event.key === "Enter") toggle(rows[active]);
      else if (event.key === "ArrowRight" && rows[active]?.closed) fold(rows[active]);
      else if (event.key === "ArrowLeft" && rows[active]?.group !== undefined && !rows[active].closed) fold(rows[active]);
      else return;
      event.preventDefault();
    });
    panel.append(
      make("div", { class: "mb-search" }, icon("search"), search),
      make("div", { class: "mb-tools" }, grouping || make("span"), make("span", { style: "display:flex" }, all, none)),
      list,
      make("div", { class: "mb-panel-foot" }, count, make("button", { class: "mb-button", type: "button", onclick: () => done(false) }, say(model, "cancel")),
        make("button", { class: "mb-button", type: "button", "data-style": "primary", onclick: () => done(true) }, say(model, "apply"))));
    shutLong();
    fill();
    list.querySelector('.mb-option:not(.mb-group)[aria-checked="true"]')?.scrollIntoView({ block: "center" });
    return (keep) => {
      if (!keep || (chosen.size === before.length && before.every((one) => chosen.has(one)))) return;
      change(options.map((one) => one.value).filter((one) => chosen.has(one)));
    };
  }

  return {
    element: [box, place],
    close,
    show(value) {
      text.textContent = summary(value ?? []);
      box.setAttribute("aria-label", `${name()}: ${text.textContent}`);
    },
  };
}

/** A period: one that has a name, or two days. */
function periodField(model, field, change) {
  const name = () => field().label;
  const { box, place, text, close } = opener(name(), "calendar", open);

  function written(value) {
    const [from, to] = (value ?? "").split("..");
    if (!to) return say(model, from);
    const day = (one) => {
      const [year, month, date] = one.split("-").map(Number);
      return model.get("language") === "zh-Hans" ? `${year}年${month}月${date}日` : new Date(Date.UTC(year, month - 1, date)).toLocaleDateString("en-GB", { day: "numeric", month: "short", year: "numeric", timeZone: "UTC" });
    };
    return from === to ? day(from) : `${day(from)} – ${day(to)}`;
  }

  function open(panel, done) {
    const value = model.get("values")[field().key] ?? "", [from, to] = value.includes("..") ? value.split("..") : ["", ""];
    const presets = field().presets ?? ["today", "yesterday", "last_7_days", "last_30_days", "this_month", "last_month", "this_year", "last_year", "all"];
    const day = (word, at) => make("input", { type: "date", value: at, min: field().first, max: field().last, required: true, "aria-label": say(model, word) });
    const first = day("from", from), last = day("to", to);
    const apply = make("button", { class: "mb-button", type: "submit", "data-style": "primary" }, say(model, "apply"));
    const valid = () => { apply.disabled = !(first.value && last.value && first.value <= last.value); };
    let picked = null;
    panel.classList.add("mb-period");
    first.addEventListener("input", valid);
    last.addEventListener("input", valid);
    panel.append(
      make("div", { class: "mb-presets", role: "group", "aria-label": name() }, ...presets.map((one) =>
        make("button", { type: "button", "aria-pressed": String(one === value), "data-focus": one === value, onclick: () => { picked = one; done(true); } }, say(model, one)))),
      make("form", { "aria-label": say(model, "custom"), onsubmit: (event) => { event.preventDefault(); picked = `${first.value}..${last.value}`; done(true); } },
        make("div", { class: "mb-days" }, make("label", {}, say(model, "from"), first), make("label", {}, say(model, "to"), last)),
        make("div", { class: "mb-panel-foot" }, make("span", { class: "mb-count" }), make("button", { class: "mb-button", type: "button", onclick: () => done(false) }, say(model, "cancel")), apply)));
    valid();
    if (!panel.querySelector("[data-focus]")) first.setAttribute("data-focus", "");
    return (keep) => { if (keep && picked && picked !== value) change(picked); };
  }

  return {
    element: [box, place],
    close,
    show(value) {
      text.textContent = written(value);
      box.setAttribute("aria-label", `${name()}: ${text.textContent}`);
    },
  };
}

/** One of a few: side by side, or in a list. */
function choiceField(model, field, change) {
  const unique = Math.random().toString(36).slice(2);
  const options = [...(field().optional ? [{ value: "", label: say(model, "optional") }] : []), ...(field().options ?? [])];
  if ((field().style ?? (options.length <= 4 ? "segments" : "select")) === "select") {
    const select = make("select", { "aria-label": field().label, onchange: () => change(select.value) }, ...options.map((one) => make("option", { value: one.value }, one.label)));
    return { element: [select], show(value) { select.value = value ?? ""; } };
  }
  const inputs = options.map((one) => make("input", { type: "radio", name: `mb-${unique}`, value: one.value, onchange: () => change(one.value) }));
  const group = make("div", { class: "mb-segments", role: "radiogroup", "aria-label": field().label }, ...options.map((one, index) => make("label", {}, inputs[index], one.label)));
  return { element: [group], show(value) { inputs.forEach((one) => { one.checked = one.value === value; }); } };
}

function toggleField(model, field, change) {
  const input = make("input", { type: "checkbox", role: "switch", onchange: () => change(input.checked) });
  return { element: [make("label", { class: "mb-switch" }, input, field().label)], bare: true, show(value) { input.checked = Boolean(value); } };
}

function buttonField(model, field) {
  const { key, label, style, disabled, icon: symbol } = field();
  const button = make("button", { class: "mb-button", type: "button", "data-style": style || "", disabled, onclick: () => model.send({ kind: "press", key }) }, symbol && icon(symbol), label);
  return { element: [button], bare: true, show() {} };
}

const KINDS = { points: pointsField, period: periodField, choice: choiceField, toggle: toggleField, button: buttonField };

/** Values as they stand in the page's address: areas and "all" are shorter than a thousand names. */
function queryOf(fields, values) {
  const query = {};
  for (const { key, kind, options = [] } of fields) {
    if (!(kind in KINDS) || kind === "button") continue;
    const value = values[key];
    if (kind === "toggle") query[key] = value ? "1" : "0";
    else if (kind !== "points") query[key] = value ?? "";
    else {
      const left = new Set(value), parts = [];
      if (left.size === options.length && left.size > 1) { parts.push("*"); left.clear(); }
      for (const [group, members] of Map.groupBy(options, (one) => one.group ?? "")) {
        if (!group || group.includes(",") || members.length < 2 || !members.every((one) => left.has(one.value))) continue;
        parts.push(`@${group}`);
        members.forEach((one) => left.delete(one.value));
      }
      query[key] = [...parts, ...left].join(",");
      // longer addresses are refused on the way
      if (query[key].length > 3000) delete query[key];
    }
  }
  return query;
}

function tellAddress(model) {
  if (!globalThis.meterBatch) return;
  const query = queryOf(model.get("fields"), model.get("values"));
  const address = new URL(location.href);
  for (const { key } of model.get("fields")) {
    if (query[key]) address.searchParams.set(key, query[key]);
    else address.searchParams.delete(key);
  }
  history.replaceState(history.state, "", address);
  address.searchParams.delete("lang");
  address.searchParams.delete("theme");
  if (parent !== globalThis) parent.postMessage({ type: "meter-batch-query", query: address.search.slice(1) }, location.origin);
}

export default {
  initialize({ model }) { takeFiles(model); },
  render({ model, el }) {
    const bar = make("div", { class: "mb mb-controls", role: "group" });
    const working = make("div", { class: "mb-working", role: "status", hidden: true }, make("i"), make("span", { class: "mb-unseen" }, say(model, "busy")));
    el.append(bar);
    let shown = {}, shape = "";

    function change(key, value) {
      model.set("values", { ...model.get("values"), [key]: value });
      model.set("changed", { key, at: Date.now() });
      model.save_changes();
      tellAddress(model);
    }

    function build() {
      // options of points and limits may change under an open panel; all else is built anew
      const outline = JSON.stringify(model.get("fields").map(({ kind, options, ...rest }) => (kind === "points" ? { kind, key: rest.key, label: rest.label } : { kind, options, ...rest })));
      if (outline !== shape) {
        shape = outline;
        Object.values(shown).forEach((one) => one.close?.(false));
        shown = {};
        const places = model.get("fields").map(({ key, kind, label }) => {
          if (kind === "break") return null;
          const field = () => model.get("fields").find((one) => one.key === key);
          const made = (shown[key] = KINDS[kind](model, field, (value) => change(key, value)));
          return make("div", { class: "mb-field", "data-kind": kind, "data-key": key }, !made.bare && label && make("span", { class: "mb-label", "aria-hidden": "true" }, label), ...made.element);
        });
        const end = places.includes(null) ? places.indexOf(null) : places.length;
        bar.replaceChildren(...places.slice(0, end), working, make("div", { class: "mb-controls-end" }, places.slice(end)));
      }
      for (const [key, one] of Object.entries(shown)) one.show(model.get("values")[key]);
    }

    const unfollow = follow(model, ["fields", "values"], build);
    const unbusy = follow(model, ["busy"], () => { working.hidden = !model.get("busy"); bar.ariaBusy = String(model.get("busy")); });
    return () => { Object.values(shown).forEach((one) => one.close?.(false)); unfollow(); unbusy(); };
  },
};
