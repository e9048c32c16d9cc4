// Draws the widgets of a page: speaks the kernel's WebSocket, keeps the models, gives each its module.
// The page tells ["kernel", id] when there is one, ["cell"] after each cell, ["end"] after the last.

import { Kernel } from "meter-batch/kernel";
import { Models } from "meter-batch/models";

const page = globalThis.meterBatch, root = document.documentElement;
const bar = document.getElementById("mb-bar");
let kernel, models, over = false, drawing = [];

/** The bar at the top: nothing, a word of what is tried, or that it is over, with a button to reload. */
function warn(word, final = false) {
  if (over) return;
  over = final;
  show(word && page.words[word], final ? "over" : "trying", final && page.words.reload, () => location.reload());
  if (final) root.removeAttribute("data-busy");
}

function show(text, kind, action, act) {
  const [told, button] = bar.children;
  bar.hidden = !text;
  bar.dataset.kind = kind;
  told.textContent = text || "";
  button.hidden = !action;
  button.textContent = action || "";
  button.onclick = act;
}

/** What went wrong in an answer of the kernel; the page goes on. */
function failed(text) {
  if (!over) show(text, "over", page.words.close, () => { bar.hidden = true; });
}

/** A thin line at the top while the kernel works longer than a moment. */
let later;
function busy(on) {
  clearTimeout(later);
  if (!on) root.removeAttribute("data-busy");
  else later = setTimeout(() => { root.dataset.busy = ""; }, 350);
}

/** Draws what has come in and was not drawn yet. */
function draw() {
  for (const one of document.querySelectorAll("[data-word]:empty")) one.textContent = page.words[one.dataset.word];
  for (const place of document.querySelectorAll(".mb-view:not([data-taken])")) {
    place.dataset.taken = "";
    drawing.push(models.show(place.dataset.model, place).then(
      (kind) => document.querySelector(`#mb-skeleton [data-for="${kind}"]`)?.remove(),
      (error) => {
        console.warn("Meter Batch:", error);
        place.append(Object.assign(document.createElement("p"), { className: "mb-message", textContent: page.words.not_drawn }));
      },
    ));
  }
}

const HEARD = {
  kernel(id) {
    kernel = new Kernel(page.base, id, { warn, busy, failed });
    models = new Models(kernel);
    draw();
  },
  cell: () => models && draw(),
  async end() {
    root.dataset.ended = "";
    if (models) draw();
    await Promise.all(drawing);
    document.getElementById("mb-skeleton")?.remove();
    root.dataset.ready = "";
    if (parent !== window) parent.postMessage({ type: "meter-batch-ready" }, location.origin);
  },
};

function heard([what, ...facts]) {
  HEARD[what](...facts);
}

page.told.forEach(heard);
page.tell = (...what) => heard(what);
// The large script is read while the kernel still works.
if (page.plotly) document.head.append(Object.assign(document.createElement("link"), { rel: "preload", as: "script", href: page.plotly }));

addEventListener("pagehide", (event) => { if (!event.persisted) kernel?.leave(); });
addEventListener("online", () => kernel?.again());
addEventListener("visibilitychange", () => { if (document.visibilityState === "visible") kernel?.again(); });
