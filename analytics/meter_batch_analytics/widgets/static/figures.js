export default {
  initialize({ model }) { takeFiles(model); },
  render({ model, el }) {
    const list = make("div", { class: "mb mb-figures", role: "list" });
    el.append(list);
    return follow(model, ["items", "title", "busy"], () => {
      list.ariaLabel = model.get("title") || null;
      list.classList.toggle("mb-busy", model.get("busy"));
      list.hidden = !model.get("items").length;
      list.replaceChildren(...model.get("items").map((one) =>
        make("div", { class: "mb-figure", role: "listitem", "data-tone": one.tone || "" },
          make("div", { class: "mb-figure-label" }, one.label ?? ""),
          make("div", { class: "mb-figure-value" }, one.value ?? "–", one.unit && make("span", { class: "mb-figure-unit" }, one.unit)),
          one.note && make("div", { class: "mb-figure-note" }, one.note))));
    });
  },
};
