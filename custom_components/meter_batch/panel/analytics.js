// The page Analytics of Home Assistant's sidebar: the analytics server's pages as tabs in a frame, and the reports.
//
// A frame sends no token: the panel asks Home Assistant over its WebSocket for a session, sets it as a cookie that is
// good below the server's pages only, and renews it while it is open.

const TEXTS = {
  en: {
    reports: "Reports",
    loading: "Loading …",
    away: "The analytics server is away. It is tried again every few seconds; meters are read all the same.",
    refused: "The analytics server does not accept Home Assistant's token. An administrator can give it a new one under Settings, Devices and services, Meter Batch.",
    none: "There is no analytics server. Once one makes itself known to Home Assistant, its pages are here.",
    waiting: "Waiting for Home Assistant …",
    cookies: "This browser does not keep the session's cookie. Allow cookies for Home Assistant and load this page again.",
    make: "Make a report",
    kind: "Report",
    period: "Period",
    formats: "Files",
    language: "Language",
    areas: "Areas",
    allAreas: "Whole site",
    go: "Make",
    noFormats: "Choose at least one file.",
    making: "The report is being made …",
    made: "The report is ready.",
    failed: "The report could not be made.",
    empty: "There are no reports yet.",
    known: "known",
    by: "by {name}",
    schedule: "by schedule {name}",
    download: "Download {name}",
    open: "Open {name}",
    frame: "Page of the analytics server",
    menu: "Menu",
    kinds: { daily: "Daily report", monthly: "Monthly report" },
  },
  "zh-Hans": {
    reports: "报表",
    loading: "正在加载…",
    away: "分析服务器不可用，每隔几秒会自动重试；电表采集照常进行。",
    refused: "分析服务器不接受 Home Assistant 的令牌。管理员可在“设置、设备与服务、Meter Batch”中填写新令牌。",
    none: "没有分析服务器。分析服务器登记到 Home Assistant 后，其页面会显示在这里。",
    waiting: "正在等待 Home Assistant…",
    cookies: "浏览器没有保存会话 Cookie。请允许 Home Assistant 使用 Cookie，然后重新加载此页面。",
    make: "生成报表",
    kind: "报表",
    period: "时段",
    formats: "文件",
    language: "语言",
    areas: "区域",
    allAreas: "整个站点",
    go: "生成",
    noFormats: "请至少选择一种文件。",
    making: "正在生成报表…",
    made: "报表已完成。",
    failed: "无法生成报表。",
    empty: "还没有报表。",
    known: "已知",
    by: "{name} 生成",
    schedule: "计划“{name}”生成",
    download: "下载 {name}",
    open: "打开 {name}",
    frame: "分析服务器的页面",
    menu: "菜单",
    kinds: { daily: "日报", monthly: "月报" },
  },
};
const LANGUAGE_NAMES = { en: "English", "zh-Hans": "简体中文" };
const RETRY_MS = 5_000;
const LOOK_MS = 20_000;
const REPORTS = "reports";

const STYLE = `
:host { display: flex; flex-direction: column; height: 100vh; height: 100dvh; min-height: 0; background: var(--primary-background-color);
  color: var(--primary-text-color); font-family: var(--ha-font-family-body, Roboto, "Noto Sans", "Noto Sans CJK SC", sans-serif) }
:host([hidden]) { display: none }
header { display: flex; align-items: center; flex: none; height: var(--header-height, 56px); padding: 0 12px;
  background: var(--app-header-background-color, var(--primary-color)); color: var(--app-header-text-color, #fff);
  border-bottom: var(--app-header-border-bottom, none); box-sizing: border-box }
h1 { font-size: 20px; font-weight: 400; margin: 0 24px 0 12px; white-space: nowrap }
:host([narrow]) h1 { display: none }
nav { display: flex; flex: 1; min-width: 0; height: 100%; overflow-x: auto; scrollbar-width: none }
nav a { display: flex; align-items: center; gap: 8px; padding: 0 16px; height: 100%; box-sizing: border-box; color: inherit;
  text-decoration: none; white-space: nowrap; border-bottom: 2px solid transparent; opacity: .75; font-weight: 500; font-size: 14px }
nav a[aria-current] { opacity: 1; border-bottom-color: currentColor }
nav a:focus-visible, button:focus-visible, .files a:focus-visible { outline: 2px solid currentColor; outline-offset: -3px }
nav ha-icon { --mdc-icon-size: 20px }
:host([narrow]) nav a { padding: 0 12px } :host([narrow]) nav ha-icon { display: none }
.menu { background: none; border: 0; color: inherit; font-size: 22px; width: 48px; height: 48px; cursor: pointer }
main { flex: 1; min-height: 0; position: relative; display: flex; flex-direction: column }
iframe { border: 0; flex: 1; width: 100%; min-height: 0; background: var(--primary-background-color) }
.notice { display: flex; gap: 12px; align-items: center; padding: 12px 16px; font-size: 14px; line-height: 1.5;
  background: var(--card-background-color); border-bottom: 1px solid var(--divider-color) }
.notice.alone { margin: 15vh auto 0; max-width: 34rem; border: 0; border-radius: 12px; padding: 24px; font-size: 16px }
.notice small { display: block; color: var(--secondary-text-color) }
.dot { flex: none; width: 10px; height: 10px; border-radius: 50%; background: var(--warning-color, #ffa600) }
.reports { overflow: auto; padding: 16px; box-sizing: border-box; height: 100% }
.reports > * { max-width: 64rem; margin: 0 auto 16px }
.card { background: var(--card-background-color); border: 1px solid var(--divider-color); border-radius: 12px; padding: 16px }
h2 { font-size: 16px; font-weight: 500; margin: 0 0 12px }
form { display: flex; flex-wrap: wrap; gap: 12px 16px; align-items: end }
label, fieldset { display: flex; flex-direction: column; gap: 4px; font-size: 12px; color: var(--secondary-text-color);
  border: 0; padding: 0; margin: 0; min-width: 0 }
fieldset > div { display: flex; gap: 12px; height: 40px; align-items: center; color: var(--primary-text-color); font-size: 14px }
fieldset label { flex-direction: row; align-items: center; font-size: 14px; color: inherit }
legend { padding: 0; margin-bottom: 4px }
select, input:not([type=checkbox]) { height: 40px; padding: 0 8px; font: inherit; font-size: 14px; box-sizing: border-box;
  color: var(--primary-text-color); background: var(--primary-background-color); border: 1px solid var(--divider-color); border-radius: 8px }
button.go { height: 40px; padding: 0 20px; font: inherit; font-weight: 500; border: 0; border-radius: 20px; cursor: pointer;
  background: var(--primary-color); color: var(--text-primary-color, #fff) }
button.go[disabled] { opacity: .5; cursor: default }
.said { margin: 12px 0 0; font-size: 14px } .said.error { color: var(--error-color, #db4437) }
ul { list-style: none; padding: 0; margin: 0 } li { display: flex; flex-wrap: wrap; gap: 8px 16px; align-items: center;
  padding: 12px 0; border-top: 1px solid var(--divider-color) } li:first-child { border-top: 0 }
li > div:first-child { flex: 1 1 18rem; min-width: 0 } li b { font-weight: 500 }
li small { display: block; color: var(--secondary-text-color); font-size: 12px; line-height: 1.6 }
.files { display: flex; gap: 8px } .files a { font-size: 13px; font-weight: 500; padding: 8px 12px; border-radius: 8px;
  color: var(--primary-color); border: 1px solid var(--divider-color); text-decoration: none }
`;

function iso(day) {
  return `${day.getFullYear()}-${String(day.getMonth() + 1).padStart(2, "0")}-${String(day.getDate()).padStart(2, "0")}`;
}

function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key in made) made[key] = value;
    else if (value !== undefined && value !== null && value !== false) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.filter((one) => one !== null && one !== undefined));
  return made;
}

class AnalyticsPanel extends HTMLElement {
  #hass;
  #narrow = false;
  #route;
  #config = {};
  #state = "loading"; // or ok, away, refused, none, waiting
  #detail = "";
  #apps = [];
  #session = null;
  #asked = 0; // when the frame last said that it has no session
  #stale = false; // the frame waits to be loaded again with another one
  #queries = new Map(); // filters of each page, as they were when it was left
  #shown = { key: null, language: null, theme: null };
  #timer = null;
  #renewer = null;
  #parts = null;
  #form = {};
  #said = null;
  #listening = null;

  set hass(hass) {
    const first = !this.#hass;
    this.#hass = hass;
    if (this.#parts?.menu) this.#parts.menu.hass = hass;
    if (first) this.#begin();
    else if (this.#language !== this.#shown.language || this.#theme !== this.#shown.theme) this.#render();
  }

  set narrow(narrow) {
    this.#narrow = narrow;
    this.toggleAttribute("narrow", Boolean(narrow));
    if (this.#parts?.menu) this.#parts.menu.narrow = narrow;
  }

  set route(route) {
    this.#route = route;
    if (this.#parts) this.#render();
  }

  set panel(panel) {
    this.#config = panel?.config ?? {};
  }

  connectedCallback() {
    window.addEventListener("message", this.#onMessage);
    document.addEventListener("visibilitychange", this.#onVisible);
    if (this.#hass) this.#begin();
  }

  disconnectedCallback() {
    window.removeEventListener("message", this.#onMessage);
    document.removeEventListener("visibilitychange", this.#onVisible);
    clearTimeout(this.#timer);
    clearInterval(this.#renewer);
    this.#listening?.removeEventListener("ready", this.#onReady);
    this.#listening?.removeEventListener("disconnected", this.#onLost);
    this.#listening = null;
    this.#parts?.frame?.remove();
    if (this.#parts) this.#parts.frame = null;
    this.#shown.key = null;
  }

  get #language() {
    return /^zh\b(?!-(hant|tw|hk))/i.test(this.#hass?.language ?? "") ? "zh-Hans" : "en";
  }

  get #texts() {
    return TEXTS[this.#language];
  }

  get #theme() {
    return this.#hass?.themes?.darkMode ? "dark" : "light";
  }

  get #timeZone() {
    return this.#hass.locale?.time_zone === "server" ? this.#hass.config.time_zone : undefined;
  }

  get #prefix() {
    return this.#route?.prefix ?? `/${location.pathname.split("/")[1]}`;
  }

  get #key() {
    const key = (this.#route?.path ?? "").split("/")[1] ?? "";
    return key === REPORTS || this.#apps.some((one) => one.key === key) ? key : (this.#apps[0]?.key ?? null);
  }

  #begin() {
    if (!this.isConnected) return;
    if (!this.#parts) this.#build();
    if (!this.#listening) {
      this.#listening = this.#hass.connection;
      this.#listening.addEventListener("ready", this.#onReady);
      this.#listening.addEventListener("disconnected", this.#onLost);
      clearInterval(this.#renewer);
      this.#renewer = setInterval(() => this.#openSession().catch(() => {}), (this.#config.renew_s ?? 300) * 1000);
    }
    this.#look();
  }

  #onReady = () => this.#look();

  #onLost = () => {
    this.#state = "waiting";
    this.#render();
  };

  #onVisible = () => {
    if (document.visibilityState === "visible" && this.#hass) this.#look();
  };

  // Asks for the state of the server and keeps the session alive, and again after a while.
  async #look() {
    clearTimeout(this.#timer);
    const before = this.#state;
    try {
      const [status] = await Promise.all([
        this.#hass.callWS({ type: "meter_batch/analytics/status" }),
        this.#session && before === "ok" ? null : this.#openSession(),
      ]);
      this.#state = status.state;
      this.#detail = status.message ?? "";
      if (status.apps.length || status.state === "none") this.#apps = status.apps; // known ones stay while it is away
      if (this.#stale) this.#parts.frame?.contentWindow.location.reload();
      this.#stale = false;
    } catch {
      // Home Assistant itself is away, or has not loaded us yet: that says nothing of the server.
      this.#state = "waiting";
      this.#detail = "";
    }
    if (!this.isConnected) return;
    this.#render();
    if (this.#parts.reports) this.#listReports();
    clearTimeout(this.#timer);
    this.#timer = setTimeout(
      () => (document.visibilityState === "visible" ? this.#look() : undefined),
      this.#state === "ok" ? LOOK_MS : RETRY_MS,
    );
  }

  async #openSession() {
    const found = await this.#hass.callWS({
      type: "meter_batch/analytics/session",
      language: this.#language,
      ...(this.#session ? { session: this.#session } : {}),
    });
    this.#session = found.session;
    const secure = location.protocol === "https:" ? ";Secure" : "";
    document.cookie = `${found.cookie}=${found.session};path=${found.path};SameSite=Strict${secure}`;
  }

  #onMessage = async (event) => {
    const frame = this.#parts?.frame;
    if (event.origin !== location.origin || !frame || event.source !== frame.contentWindow) return;
    if (event.data?.type === "meter-batch-query") this.#keepQuery(String(event.data.query ?? ""));
    if (event.data?.type === "meter-batch-session") {
      // The frame was told that it has no session: make one, and load it again; once, or it would go on for ever.
      if (Date.now() - this.#asked < RETRY_MS) return this.#say("cookies");
      this.#asked = Date.now();
      this.#session = null;
      this.#stale = true;
      this.#look();
    }
  };

  #keepQuery(text) {
    const query = new URLSearchParams(text.replace(/^\?/, ""));
    query.delete("lang");
    query.delete("theme");
    const kept = query.toString();
    this.#queries.set(this.#key, kept);
    history.replaceState(history.state, "", `${this.#prefix}/${this.#key}${kept ? `?${kept}` : ""}`);
  }

  #go(event, key) {
    if (event.metaKey || event.ctrlKey || event.shiftKey || event.button) return;
    event.preventDefault();
    if (key === this.#key) return;
    this.#queries.set(this.#key, location.search.slice(1));
    const query = this.#queries.get(key);
    history.pushState(null, "", `${this.#prefix}/${key}${query ? `?${query}` : ""}`);
    window.dispatchEvent(new CustomEvent("location-changed", { detail: { replace: false } }));
  }

  #build() {
    const root = this.attachShadow({ mode: "open" });
    const style = new CSSStyleSheet();
    style.replaceSync(STYLE);
    root.adoptedStyleSheets = [style];
    const title = element("h1");
    const nav = element("nav");
    const main = element("main");
    const header = element("header", {}, this.#menu(), title, nav);
    root.append(header, main);
    this.#parts = { ...this.#parts, title, nav, main, frame: null };
  }

  #menu() {
    if (customElements.get("ha-menu-button")) {
      const menu = document.createElement("ha-menu-button");
      menu.hass = this.#hass;
      menu.narrow = this.#narrow;
      this.#parts = { menu };
      return menu;
    }
    const button = element("button", { className: "menu", type: "button", textContent: "☰" });
    button.setAttribute("aria-label", this.#texts.menu);
    button.addEventListener("click", () =>
      this.dispatchEvent(new CustomEvent("hass-toggle-menu", { bubbles: true, composed: true })),
    );
    return button;
  }

  #render() {
    if (!this.#parts || !this.#hass) return;
    const { title, nav } = this.#parts;
    const key = this.#key;
    title.textContent = this.#hass.panels?.[this.#prefix.slice(1)]?.title ?? "";
    const tabs = [
      ...this.#apps.map((one) => ({ key: one.key, icon: one.icon, name: one.name[this.#language] ?? one.name.en ?? one.key })),
      { key: REPORTS, icon: "mdi:file-chart-outline", name: this.#texts.reports },
    ];
    const wanted = JSON.stringify([tabs, key, this.#prefix]);
    if (nav.dataset.made !== wanted) {
      nav.dataset.made = wanted;
      nav.replaceChildren(...tabs.map((tab) => this.#tab(tab, key)));
      nav.querySelector("[aria-current]")?.scrollIntoView({ block: "nearest", inline: "nearest" });
    }
    if (key === REPORTS) this.#showReports();
    else this.#showApp(this.#apps.find((one) => one.key === key));
    this.#parts.notice?.remove();
    this.#parts.notice = null;
    // A page in the frame says itself that it waits for its server.
    const said = this.#parts.frame && ["away", "loading"].includes(this.#state);
    if (this.#state !== "ok" && !said) this.#say(this.#state);
  }

  #tab(tab, current) {
    const link = element("a", { href: `${this.#prefix}/${tab.key}` }, element("ha-icon", { icon: tab.icon }), tab.name);
    if (tab.key === current) link.setAttribute("aria-current", "page");
    link.addEventListener("click", (event) => this.#go(event, tab.key));
    return link;
  }

  // A line above what is shown, or, where nothing is, in its place.
  #say(state) {
    const { main, frame } = this.#parts;
    this.#parts.notice?.remove();
    const text = this.#texts[state] ?? this.#detail;
    const alone = !frame && !this.#parts.reports;
    const detail = state === "away" && this.#detail && this.#hass.user?.is_admin ? element("small", { textContent: this.#detail }) : null;
    const notice = element("div", { className: alone ? "notice alone" : "notice", role: "status" });
    notice.append(...[state === "loading" ? null : element("span", { className: "dot" }), element("div", {}, text, detail)].filter(Boolean));
    main.prepend(notice);
    this.#parts.notice = notice;
  }

  #showApp(app) {
    const { main } = this.#parts;
    this.#parts.reports?.remove();
    this.#parts.reports = null;
    const language = this.#language;
    const theme = this.#theme;
    const same = this.#shown.key === app?.key && this.#shown.language === language && this.#shown.theme === theme;
    if (!app || !this.#session || (same && this.#parts.frame)) return;
    const query = new URLSearchParams(this.#shown.key === app.key ? this.#queries.get(app.key) : location.search);
    query.set("lang", language);
    query.set("theme", theme);
    this.#shown = { key: app.key, language, theme };
    this.#parts.frame?.remove();
    // Another frame for another page: its address does not enter the history of the browser.
    const frame = element("iframe", { src: `${app.path}?${query}`, title: this.#texts.frame });
    main.append(frame);
    this.#parts.frame = frame;
  }

  #showReports() {
    const { main } = this.#parts;
    this.#parts.frame?.remove();
    this.#parts.frame = null;
    const language = this.#language;
    const there = this.#parts.reports && this.#shown.language === language;
    this.#shown = { key: REPORTS, language, theme: this.#theme };
    if (there) return;
    this.#parts.reports?.remove();
    const list = element("section", { className: "card", textContent: this.#texts.loading });
    this.#parts.reports = element("div", { className: "reports" }, this.#makeForm(), list);
    this.#parts.list = list;
    main.append(this.#parts.reports);
    this.#listReports();
  }

  async #listReports() {
    const { list } = this.#parts;
    try {
      const { reports, away } = await this.#hass.callWS({ type: "meter_batch/reports/list" });
      if (away) {
        delete list.dataset.known;
        list.replaceChildren(this.#texts.away);
        return;
      }
      const known = JSON.stringify(reports.map((one) => [one.id, one.made_at]));
      if (list.dataset.known === known) return; // what has the focus keeps it
      list.dataset.known = known;
      list.replaceChildren(
        element("h2", { textContent: this.#texts.reports }),
        reports.length
          ? element("ul", {}, ...reports.map((one) => this.#report(one)))
          : element("div", { textContent: this.#texts.empty }),
      );
    } catch {
      delete list.dataset.known;
      list.replaceChildren(this.#texts.waiting);
    }
  }

  #report(report) {
    const texts = this.#texts;
    const at = new Date(report.made_at);
    const facts = [
      Number.isNaN(at.valueOf()) ? null : at.toLocaleString(this.#language, { dateStyle: "medium", timeStyle: "short", timeZone: this.#timeZone }),
      report.completeness === null
        ? null
        : `${report.completeness.toLocaleString(this.#language, { style: "percent", maximumFractionDigits: 1 })} ${texts.known}`,
      report.schedule ? texts.schedule.replace("{name}", report.schedule) : report.by ? texts.by.replace("{name}", report.by) : null,
      LANGUAGE_NAMES[report.language],
    ];
    const files = report.files.map((file) => {
      const opens = file.format === "pdf";
      const link = element("a", { href: file.url, textContent: file.format.toUpperCase() });
      if (opens) link.target = "_blank";
      else link.download = file.name;
      link.rel = "noopener";
      link.setAttribute("aria-label", (opens ? texts.open : texts.download).replace("{name}", file.name));
      return link;
    });
    return element(
      "li",
      {},
      element("div", {}, element("b", { textContent: report.title }), element("small", { textContent: facts.filter(Boolean).join(" · ") })),
      element("div", { className: "files" }, ...files),
    );
  }

  #makeForm() {
    const texts = this.#texts;
    const kinds = this.#config.kinds ?? ["daily", "monthly"];
    const option = (value, text, chosen) => element("option", { value, textContent: text, selected: value === chosen });
    const form = this.#form;
    form.kind ??= kinds.at(-1);
    form.language = this.#language;
    const kind = element("select", {}, ...kinds.map((one) => option(one, texts.kinds[one] ?? one, form.kind)));
    const language = element("select", {}, ...Object.entries(LANGUAGE_NAMES).map(([one, name]) => option(one, name, form.language)));
    const areas = Object.values(this.#hass.areas ?? {}).map((one) => one.name);
    const area = element("select", {}, option("", texts.allAreas, ""), ...areas.map((one) => option(one, one, "")));
    const now = new Date();
    const day = (back) => iso(new Date(now.getFullYear(), now.getMonth(), now.getDate() - back));
    const months = Array.from({ length: 36 }, (_, back) => new Date(now.getFullYear(), now.getMonth() - 1 - back, 1));
    const periods = {
      daily: element("input", { type: "date", value: day(1), max: day(0), required: true }),
      // A field for months is not known to every browser.
      monthly: element("select", {}, ...months.map((one) =>
        option(iso(one).slice(0, 7), one.toLocaleDateString(this.#language, { year: "numeric", month: "long" }), ""))),
    };
    const period = element("label", {}, texts.period);
    const setPeriod = () => period.replaceChildren(texts.period, periods[kind.value]);
    setPeriod();
    kind.addEventListener("change", () => {
      form.kind = kind.value;
      setPeriod();
    });
    const boxes = (this.#config.formats ?? ["pdf"]).map((one) => element("input", { type: "checkbox", value: one, checked: one !== "html" }));
    const go = element("button", { className: "go", type: "submit", textContent: texts.go });
    const said = element("p", { className: "said", role: "status", hidden: true });
    const made = element(
      "form",
      {},
      element("label", {}, texts.kind, kind),
      period,
      element("label", {}, texts.areas, area),
      element("label", {}, texts.language, language),
      element("fieldset", {}, element("legend", { textContent: texts.formats }),
        element("div", {}, ...boxes.map((box) => element("label", {}, box, box.value.toUpperCase())))),
      go,
    );
    const say = (text, error = false) => {
      said.hidden = !text;
      said.textContent = text;
      said.classList.toggle("error", error);
    };
    made.addEventListener("submit", async (event) => {
      event.preventDefault();
      if (!boxes.some((box) => box.checked)) return say(texts.noFormats, true);
      go.disabled = true;
      say(texts.making);
      try {
        await this.#hass.callWS({
          type: "call_service",
          domain: "meter_batch",
          service: "generate_report",
          service_data: {
            report: kind.value,
            period: periods[kind.value].value,
            language: language.value,
            formats: boxes.filter((box) => box.checked).map((box) => box.value),
            ...(area.value ? { areas: [area.value] } : {}),
          },
          return_response: true,
        });
        say(texts.made);
        await this.#listReports();
      } catch (error) {
        say(await this.#words(error), true);
      }
      go.disabled = false;
    });
    return element("section", { className: "card" }, element("h2", { textContent: texts.make }), made, said);
  }

  // What an action refuses, in the user's language.
  async #words(error) {
    if (error?.translation_key && this.#hass.loadBackendTranslation) {
      const localize = await this.#hass.loadBackendTranslation("exceptions", error.translation_domain);
      const key = `component.${error.translation_domain}.exceptions.${error.translation_key}.message`;
      const text = localize(key, error.translation_placeholders);
      if (text) return text;
    }
    return error?.message || this.#texts.failed;
  }
}

if (!customElements.get("meter-batch-analytics-panel")) {
  customElements.define("meter-batch-analytics-panel", AnalyticsPanel);
}
