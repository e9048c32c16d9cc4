/** A time as it is written: the wall clock Python meant, whatever the browser's zone. */
function clockOf(value, day) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  const text = typeof value === "number" ? new Date(value).toISOString() : String(value);
  return day ? text.slice(0, 10) : text.slice(0, 16).replace("T", " ");
}

const NUMBERS = ["number", "percent"];

export default {
  initialize({ model }) { takeFiles(model); },
  render({ model, el }) {
    const columnsOf = make("colgroup"), head = make("thead"), body = make("tbody"), foot = make("tfoot");
    const table = make("table", {}, columnsOf, head, body, foot);
    const scroll = make("div", { class: "mb-table-scroll", tabIndex: 0, role: "region" }, table);
    const count = make("div", { class: "mb-table-foot", "aria-live": "polite" });
    const box = make("div", { class: "mb mb-table" }, scroll, count);
    el.append(box);
    const above = make("tr", { class: "mb-space", "aria-hidden": "true" }, make("td")), below = make("tr", { class: "mb-space", "aria-hidden": "true" }, make("td"));
    const rowHeight = matchMedia("(pointer: coarse)").matches ? 40 : 32;
    let columns = [], rows = {}, length = 0, order = [], drawn = "", active = -1, anchor = -1;

    function kindOf(column) {
      if (column.kind) return column.kind;
      const values = rows[column.key] ?? [];
      return ArrayBuffer.isView(values) || typeof Array.prototype.find.call(values, (one) => one !== null) === "number" ? "number" : "text";
    }

    function written(column, value) {
      switch (column.kind) {
        case "number": return digitsOf(value, column.digits ?? 0);
        case "percent": {
          if (value === null || value === undefined || Number.isNaN(value)) return "–";
          const digits = column.digits ?? 1;
          // what is not whole never reads as whole
          const share = value < 1 && 1 - value < 0.5 * 10 ** -(digits + 2) ? 1 - 10 ** -(digits + 2) : value;
          return digitsOf(share * 100, digits) + (model.get("language") === "en" ? " %" : "%");
        }
        case "instant": return clockOf(value, false);
        case "day": return clockOf(value, true);
        default: return value ?? "–";
      }
    }

    function take() {
      rows = revive(model.get("rows"));
      columns = model.get("columns").map((one) => {
        const kind = kindOf(one);
        return { ...one, kind, align: one.align ?? (NUMBERS.includes(kind) ? "end" : "start") };
      });
      length = Math.max(0, ...columns.map((one) => rows[one.key]?.length ?? 0));
      for (const one of columns) {
        if (one.bar !== true) continue;
        one.end = 0;
        for (const value of rows[one.key] ?? []) if (value > one.end) one.end = value;
      }
      const total = model.get("total"), some = Object.keys(total).length > 0;
      box.dataset.selectable = model.get("selectable") || "";
      if (!model.get("selectable")) delete box.dataset.selectable;
      scroll.style.maxHeight = `${model.get("height")}px`;
      scroll.ariaLabel = model.get("title") || null;
      table.setAttribute("aria-rowcount", String(length + 1));
      measure(some ? total : {});
      head.replaceChildren(make("tr", {}, ...columns.map((one) =>
        make("th", { scope: "col", "data-align": one.align, title: `${one.label ?? one.key}${one.unit ? ` (${one.unit})` : ""}` },
          make("button", { type: "button", onclick: () => sortBy(one) }, make("span", {}, one.label ?? one.key), one.unit && make("small", {}, one.unit), make("i", { "aria-hidden": "true" }))))));
      foot.replaceChildren(...(some ? [make("tr", {}, ...columns.map((one, index) =>
        make(index ? "td" : "th", { scope: index ? null : "row", "data-align": one.align }, one.key in total ? written(one, total[one.key]) : index ? "" : say(model, "total"))))] : []));
      count.textContent = length === 1 ? say(model, "one_row") : length ? say(model, "rows", { n: digitsOf(length) }) : say(model, "no_rows");
      sort();
    }

    function measure(total) {
      const pen = document.createElement("canvas").getContext("2d");
      const family = getComputedStyle(box).fontFamily, narrow = box.clientWidth && box.clientWidth < 600;
      const widths = columns.map((one, index) => {
        if (one.width) return one.width;
        pen.font = `500 13.5px ${family}`;
        let widest = pen.measureText(one.label ?? one.key).width + (one.unit ? pen.measureText(one.unit).width : 0) + 22;
        pen.font = `400 13.5px ${family}`;
        const step = Math.max(1, Math.floor(length / 150));
        for (let row = 0; row < length; row += step) widest = Math.max(widest, pen.measureText(written(one, rows[one.key]?.[row])).width);
        if (one.key in total) widest = Math.max(widest, pen.measureText(written(one, total[one.key])).width * 1.05);
        return Math.ceil(Math.min(index ? 300 : narrow ? 150 : 320, Math.max(64, widest + 28)));
      });
      columnsOf.replaceChildren(...widths.map((one) => make("col", { style: `width:${one}px` })));
      table.style.minWidth = `${widths.reduce((sum, one) => sum + one, 0)}px`;
    }

    function sort() {
      const { key, descending } = model.get("sort");
      const column = columns.find((one) => one.key === key);
      order = Array.from({ length }, (_, index) => index);
      if (column) {
        const values = rows[key] ?? [], sign = descending ? -1 : 1;
        const words = new Intl.Collator(model.get("language"), { numeric: true });
        const nothing = (value) => value === null || value === undefined || Number.isNaN(value);
        const compare = (a, b) => (typeof a === "string" ? words.compare(a, b) : a - b);
        // what is not there stands at the end both ways
        order.sort((a, b) => nothing(values[a]) - nothing(values[b]) || (nothing(values[a]) ? 0 : sign * compare(values[a], values[b])) || a - b);
      }
      [...head.querySelectorAll("th")].forEach((one, index) => {
        const on = columns[index].key === key;
        one.setAttribute("aria-sort", on ? (descending ? "descending" : "ascending") : "none");
        one.querySelector("i").textContent = on ? (descending ? "▼" : "▲") : "";
      });
      drawn = "";
      active = anchor = -1;
      draw();
    }

    function sortBy(column) {
      const { key, descending } = model.get("sort");
      model.set("sort", { key: column.key, descending: key === column.key ? !descending : NUMBERS.includes(column.kind) });
      model.save_changes();
    }

    function cell(column, index, row) {
      const value = rows[column.key]?.[row], text = written(column, value);
      const tone = column.tone ? rows[column.tone]?.[row] ?? "" : "";
      const parts = [make("span", { class: "mb-value" }, text)];
      const end = column.bar === true ? column.end : column.bar;
      if (end && value > 0) parts.unshift(make("i", { class: "mb-bar", style: `width:calc((100% - 12px) * ${Math.min(1, value / end)})` }));
      return make(index ? "td" : "th", { scope: index ? null : "row", "data-align": column.align, "data-tone": tone || null, title: text.length > 24 ? text : null }, ...parts);
    }

    function draw() {
      const height = scroll.clientHeight || model.get("height");
      const first = Math.max(0, Math.floor(scroll.scrollTop / rowHeight) - 8), last = Math.min(length, first + Math.ceil(height / rowHeight) + 16);
      box.classList.toggle("mb-table-aside", scroll.scrollLeft > 0);
      const chosen = new Set(model.get("selected")), now = `${first} ${last}`;
      if (now !== drawn) {
        drawn = now;
        above.hidden = !first;
        below.hidden = last >= length;
        above.firstChild.style.height = `${first * rowHeight}px`;
        below.firstChild.style.height = `${(length - last) * rowHeight}px`;
        above.firstChild.colSpan = below.firstChild.colSpan = Math.max(1, columns.length);
        body.replaceChildren(above, ...order.slice(first, last).map((row, index) =>
          make("tr", { "aria-rowindex": String(first + index + 2), "data-at": String(first + index), "data-row": String(row) }, ...columns.map((one, position) => cell(one, position, row)))), below);
      }
      for (const one of body.querySelectorAll("[data-row]")) {
        if (model.get("selectable")) one.setAttribute("aria-selected", String(chosen.has(Number(one.dataset.row))));
        one.classList.toggle("mb-active", Number(one.dataset.at) === active);
      }
    }

    function choose(at, { add, range } = {}) {
      const mode = model.get("selectable"), row = order[at];
      if (!mode || row === undefined) return;
      const before = model.get("selected");
      let chosen;
      if (mode === "many" && range && anchor >= 0) chosen = [...new Set([...before, ...order.slice(Math.min(anchor, at), Math.max(anchor, at) + 1)])];
      else if (mode === "many" && add) chosen = before.includes(row) ? before.filter((one) => one !== row) : [...before, row];
      else chosen = before.length === 1 && before[0] === row ? [] : [row];
      active = at;
      if (!range) anchor = at;
      model.set("selected", chosen);
      model.save_changes();
    }

    body.addEventListener("click", (event) => {
      const found = event.target.closest("[data-at]");
      if (found) choose(Number(found.dataset.at), { add: event.ctrlKey || event.metaKey || matchMedia("(pointer: coarse)").matches, range: event.shiftKey });
    });
    scroll.addEventListener("keydown", (event) => {
      if (!model.get("selectable") || event.target !== scroll) return;
      const page = Math.max(1, Math.floor(scroll.clientHeight / rowHeight) - 2);
      const keys = { ArrowDown: active + 1, ArrowUp: active - 1, PageDown: active + page, PageUp: active - page, Home: 0, End: length - 1 };
      if (event.key in keys) {
        active = Math.max(0, Math.min(length - 1, keys[event.key]));
        const top = active * rowHeight, seen = scroll.clientHeight - 40 - foot.offsetHeight - rowHeight;
        if (top < scroll.scrollTop) scroll.scrollTop = top;
        else if (top > scroll.scrollTop + seen) scroll.scrollTop = top - seen;
        draw();
      } else if (event.key === " " || event.key === "Enter") choose(active, { add: true, range: event.shiftKey });
      else return;
      event.preventDefault();
    });
    let frame = 0;
    scroll.addEventListener("scroll", () => { cancelAnimationFrame(frame); frame = requestAnimationFrame(draw); }, { passive: true });
    const resized = new ResizeObserver(() => { drawn = ""; draw(); });
    resized.observe(scroll);
    const unfollow = [
      follow(model, ["columns", "rows", "total", "height", "title", "selectable"], take),
      follow(model, ["sort"], sort),
      follow(model, ["selected"], draw),
      follow(model, ["busy"], () => { box.classList.toggle("mb-busy", model.get("busy")); box.ariaBusy = String(model.get("busy")); }),
    ];
    return () => { resized.disconnect(); cancelAnimationFrame(frame); unfollow.forEach((one) => one()); };
  },
};
