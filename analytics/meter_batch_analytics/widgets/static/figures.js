export default {
  initialize({ model }) { takeFiles(model); },
  render({ model, el }) {
    const list = make("dl", { class: "mb mb-figures" });
    el.append(list);
    return follow(model, ["items", "title", "busy"], () => {
      list.ariaLabel = model.get("title") || null;
      list.classList.toggle("mb-busy", model.get("busy"));
      list.hidden = !model.get("items").length;
      list.replaceChildren(...model.get("items").map((one) =>
        make("div", { class: "mb-figure", "data-tone": one.tone || "" },
          make("dt", {}, one.label ?? ""),
          make("dd", { class: "mb-figure-value" }, one.value ?? "–", one.unit && make("span", { class: "mb-figure-unit" }, one.unit)),
          one.note && make("dd", { class: "mb-figure-note" }, one.note))));
    });
  },
};
