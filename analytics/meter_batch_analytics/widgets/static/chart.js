/** Pixels below which a chart is laid out for a narrow screen. */
const NARROW = 600;

/** plotly.js, once a page: from the address the page knows, else from the kernel's own wheel. */
function plotly(model) {
  globalThis.meterBatchPlotly ??= (globalThis.Plotly ? Promise.resolve() : load(globalThis.meterBatch?.plotly).catch(() => fromKernel(model)))
    .then(() => globalThis.Plotly)
    .catch((error) => { globalThis.meterBatchPlotly = undefined; throw error; });
  return globalThis.meterBatchPlotly;
}

function load(address) {
  if (!address) return Promise.reject(new Error("no address"));
  return new Promise((done, failed) => {
    // a loader of AMD modules on the page (JupyterLab has one) would swallow the script
    const define = globalThis.define;
    globalThis.define = undefined;
    const script = make("script", { src: address });
    const over = (then) => () => { globalThis.define = define; then(); };
    script.onload = over(() => (globalThis.Plotly ? done() : failed(new Error("no plotly"))));
    script.onerror = over(() => failed(new Error("plotly.js was not loaded")));
    document.head.append(script);
  });
}

function fromKernel(model) {
  return new Promise((done, failed) => {
    const late = setTimeout(() => failed(new Error("the kernel did not send plotly.js")), 60_000);
    const take = (content, buffers) => {
      if (content.kind !== "plotly") return;
      clearTimeout(late);
      model.off("msg:custom", take);
      const address = URL.createObjectURL(new Blob([buffers[0]], { type: "text/javascript" }));
      load(address).then(done, failed).finally(() => URL.revokeObjectURL(address));
    };
    model.on("msg:custom", take);
    model.send({ kind: "plotly" });
  });
}

/** How plotly writes days and its own buttons in Chinese; English is built in. */
function localeOf(model) {
  if (model.get("language") !== "zh-Hans") return "en-US";
  const days = ["日", "一", "二", "三", "四", "五", "六"], months = Array.from({ length: 12 }, (_, one) => `${one + 1}月`);
  globalThis.Plotly.register({
    moduleType: "locale",
    name: "zh-CN",
    dictionary: {
      Autoscale: "显示全部", "Download plot as a PNG": "保存为图片", "Download plot as a png": "保存为图片", Pan: "平移", "Reset axes": "还原", Zoom: "缩放",
      "Zoom in": "放大", "Zoom out": "缩小", "Double-click to zoom back out": "双击还原", "Toggle Spike Lines": "辅助线",
    },
    format: {
      days: days.map((one) => `星期${one}`), shortDays: days.map((one) => `周${one}`), months, shortMonths: months,
      date: "%Y-%m-%d", year: "%Y年", month: "%Y年%-m月", dayMonth: "%-m月%-d日", dayMonthYear: "%Y年%-m月%-d日",
    },
  });
  return "zh-CN";
}

/** The x range of plotly's message about a move: two ends, [] for all, undefined when it is about something else. */
function zoomOf(move) {
  if (move["xaxis.autorange"] || move.autosize === false) return [];
  if (move["xaxis.range[0]"] !== undefined) return [move["xaxis.range[0]"], move["xaxis.range[1]"]];
  return Array.isArray(move["xaxis.range"]) ? [...move["xaxis.range"]] : undefined;
}

export default {
  initialize({ model }) {
    takeFiles(model);
  },
  render({ model, el }) {
    const plot = make("div", { class: "mb-chart-plot" }), wait = make("div", { class: "mb-chart-wait" });
    const box = make("div", { class: "mb mb-chart", role: "figure" }, plot, wait);
    el.append(box);
    let Plotly, ended = false, shows = false, later, locale, drawing = Promise.resolve();

    function draw() {
      box.ariaLabel = model.get("title") || null;
      plot.style.height = box.style.minHeight = `${model.get("height")}px`;
      const { data = [], layout = {}, config = {} } = revive(model.get("figure"));
      // Nothing to draw yet: plotly would draw axes from -1 to 6 on its own grey paper.
      const empty = !data.length && !Object.keys(layout).length;
      box.classList.toggle("mb-chart-empty", empty);
      if (!Plotly || ended || (empty && !shows)) return;
      shows = !empty;
      const narrow = plot.clientWidth < NARROW, colours = getComputedStyle(box);
      const shown = {
        modebar: { bgcolor: "rgba(0,0,0,0)", color: colours.getPropertyValue("--mb-text-2"), activecolor: colours.getPropertyValue("--mb-accent") },
        ...layout, height: model.get("height"), width: plot.clientWidth || undefined, autosize: false,
        // a wide legend would leave nothing of a narrow chart
        ...(narrow && layout.showlegend !== false ? { legend: { ...layout.legend, orientation: "h", x: 0, xanchor: "left", y: -80 / model.get("height"), yanchor: "top" } } : {}),
      };
      // Only these buttons: one of plotly's own would send the chart to its maker's cloud.
      const settings = { doubleClick: "reset", ...config, displaylogo: false, responsive: false, locale, plotlyServerURL: "", modeBarButtons: [["zoom2d", "pan2d"], ["autoScale2d", "resetScale2d"]] };
      if (narrow) settings.displayModeBar = false;
      if (empty) {
        drawing = drawing.then(emptied);
        return;
      }
      drawing = drawing.then(() => Plotly.react(plot, data, shown, settings)).then(drawn, fail);
    }

    /** There is a plot: its moves are listened to, once for each time that plotly began anew. */
    function drawn() {
      wait.remove();
      if (!plot.on || plot.dataset.heard) return;
      plot.dataset.heard = "";
      plot.on("plotly_relayout", (move) => {
        const zoom = zoomOf(move);
        if (zoom === undefined) return;
        clearTimeout(later);
        later = setTimeout(() => { model.set("zoom", zoom); model.save_changes(); }, 500);
      });
      plot.on("plotly_click", ({ points: [one] }) => {
        model.set("clicked", { x: one.x, y: one.y, trace: one.curveNumber, point: one.pointIndex ?? one.pointNumber, custom: one.customdata ?? null });
        model.save_changes();
      });
    }

    /** Back to waiting. */
    function emptied() {
      Plotly.purge(plot);
      delete plot.dataset.heard;
      box.append(wait);
    }

    function fail(error) {
      wait.remove();
      plot.replaceChildren(make("p", { class: "mb-chart-failed", role: "alert" }, say(model, "chart_failed")));
      console.warn("Meter Batch:", error);
    }

    async function picture({ name, width, height }) {
      await drawing;
      if (!shows) return;
      const { legend = {} } = model.get("figure").layout ?? {};
      // on its own it must say what it shows
      const title = { text: model.get("title"), x: 0.01, xanchor: "left", yref: "container", y: 1 - 24 / height, yanchor: "middle", font: { size: 16 } };
      const margin = { ...plot.layout.margin, t: 100 };
      const layout = { ...plot.layout, legend, title, margin, width, height, autosize: false, paper_bgcolor: getComputedStyle(box).backgroundColor };
      const address = await Plotly.toImage({ data: plot.data, layout, config: { locale } }, { format: "png", width, height, scale: 2 });
      // not by fetch: the page may speak to nobody but its kernel
      save(name, "image/png", Uint8Array.from(atob(address.split(",")[1]), (one) => one.charCodeAt(0)));
    }

    const custom = (content) => { if (content.kind === "png" && Plotly) picture(content); };
    model.on("msg:custom", custom);
    const unfollow = follow(model, ["figure", "height", "title"], draw);
    const unbusy = follow(model, ["busy"], () => { box.classList.toggle("mb-busy", model.get("busy")); box.ariaBusy = String(model.get("busy")); });
    // A new width alone keeps what the reader zoomed to; only between narrow and wide is all drawn anew.
    const resized = new ResizeObserver(() => {
      const width = plot.clientWidth;
      if (!Plotly || !plot.layout || !width || Math.abs(width - (plot.layout.width ?? 0)) <= 1) return;
      if (width < NARROW !== plot.layout.width < NARROW) draw();
      else drawing = drawing.then(() => Plotly.relayout(plot, { width })).catch(fail);
    });
    resized.observe(plot);

    plotly(model).then((found) => {
      if (ended) return;
      Plotly = found;
      locale = localeOf(model);
      draw();
    }).catch(fail);

    return () => {
      ended = true;
      clearTimeout(later);
      resized.disconnect();
      model.off("msg:custom", custom);
      unfollow(); unbusy();
      if (Plotly) Plotly.purge(plot);
    };
  },
};
