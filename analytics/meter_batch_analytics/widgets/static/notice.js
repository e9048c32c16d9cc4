export default {
  initialize({ model }) { takeFiles(model); },
  render({ model, el }) {
    const box = make("div", { class: "mb mb-notice", role: "status" });
    el.append(box);
    return follow(model, ["kind", "text", "progress"], () => {
      const kind = model.get("kind"), progress = model.get("progress");
      box.hidden = !model.get("text");
      box.dataset.kind = kind;
      box.setAttribute("role", kind === "error" ? "alert" : "status");
      const parts = [icon(kind === "info" ? "info" : "warning"), make("span", { class: "mb-notice-text" }, model.get("text"))];
      if (progress !== null && progress !== undefined) {
        const share = Math.round(100 * Math.min(1, progress));
        const known = progress >= 0;
        if (known) parts.push(make("span", { class: "mb-notice-share" }, `${share} %`));
        parts.push(make("div", { class: "mb-notice-bar", role: "progressbar", "aria-label": model.get("text"), "aria-valuenow": known ? String(share) : null, "data-moving": !known },
          make("i", { style: known ? `width:${share}%` : "" })));
      }
      box.replaceChildren(...parts);
    });
  },
};
