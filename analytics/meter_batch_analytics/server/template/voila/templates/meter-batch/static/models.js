// The models of a page: what Python holds, mirrored here; each with the module (anywidget) that draws it.

const STATE = "jupyter.widget.control";

/** Puts buffers where they were taken from: `paths` into `state`. */
function filled(state, paths = [], buffers = []) {
  paths.forEach((path, index) => {
    const last = path.at(-1);
    path.slice(0, -1).reduce((place, key) => place[key], state)[last] = buffers[index];
  });
  return state;
}

/** Modules by their text: one for all widgets of a class. */
const modules = new Map();
function moduleOf(text) {
  if (!modules.has(text)) {
    const address = URL.createObjectURL(new Blob([text], { type: "text/javascript" }));
    modules.set(text, import(address).then(async ({ default: found }) => (typeof found === "function" ? found() : found)).finally(() => URL.revokeObjectURL(address)));
  }
  return modules.get(text);
}

function dress(id, css) {
  if (!css || document.querySelector(`style[data-widget="${CSS.escape(id)}"]`)) return;
  const style = Object.assign(document.createElement("style"), { textContent: css });
  style.dataset.widget = id;
  document.head.append(style);
}

/** What a widget's module is given: get, set, save_changes, on, off, send. */
class Model {
  constructor(models, id, state) {
    Object.assign(this, { models, id, state, heard: new Map(), dirty: new Set(), waits: null });
  }

  get(key) { return this.state[key]; }

  set(key, value) {
    if (this.state[key] === value) return;
    this.state[key] = value;
    this.dirty.add(key);
    this.emit(`change:${key}`, value);
  }

  /** Sends what was set. While the kernel still works on the last, later values wait and only the newest goes. */
  save_changes() {
    if (!this.dirty.size || this.waits) return;
    const state = Object.fromEntries([...this.dirty].map((key) => [key, this.state[key]]));
    this.waits = this.models.message(this.id, { method: "update", state, buffer_paths: [] });
    if (this.waits) this.dirty.clear();
  }

  idle(message) {
    if (this.waits !== message) return;
    this.waits = null;
    this.save_changes();
  }

  on(names, told) {
    for (const name of names.split(" ")) this.heard.set(name, [...(this.heard.get(name) ?? []), told]);
  }

  off(names, told) {
    for (const name of names ? names.split(" ") : [...this.heard.keys()]) {
      this.heard.set(name, told ? (this.heard.get(name) ?? []).filter((one) => one !== told) : []);
    }
  }

  emit(name, ...facts) {
    for (const one of this.heard.get(name) ?? []) one(...facts);
  }

  send(content, _callbacks, buffers) {
    this.models.message(this.id, { method: "custom", content }, buffers);
  }

  /** What Python says; what was set here in the meantime and not sent yet is newer. */
  take(state) {
    const changed = Object.keys(state).filter((key) => !this.dirty.has(key) && this.state[key] !== state[key]);
    for (const key of changed) this.state[key] = state[key];
    for (const key of changed) this.emit(`change:${key}`, state[key]);
    if (changed.length) this.emit("change");
  }

  /** Draws it into a place. The kind of widget, as its class is called. */
  async show(place) {
    const name = this.state._anywidget_id ?? this.id;
    dress(name, this.state._css);
    const module = await moduleOf(this.state._esm);
    this.begun ??= (async () => module.initialize?.({ model: this }))();
    await this.begun;
    const el = document.createElement("div");
    place.append(el);
    await module.render?.({ model: this, el });
    return name.split(".").at(-1).toLowerCase();
  }
}

export class Models {
  constructor(kernel) {
    Object.assign(this, { kernel, known: new Map(), awaited: new Map(), control: null });
    kernel.onopen = () => this.ask();
    kernel.onidle = (message) => this.known.forEach((one) => one.idle(message));
    kernel.oncomm = (type, content, buffers) => this.hear(type, content, buffers);
  }

  /** Asks for the state of all models: of those that were there before this page listened. */
  ask() {
    this.known.forEach((one) => { one.waits = null; });
    this.control = crypto.randomUUID?.() ?? String(Math.random()).slice(2);
    this.kernel.send("comm_open", { comm_id: this.control, target_name: STATE, data: {} }, [], { version: "1.0.0" });
    this.kernel.send("comm_msg", { comm_id: this.control, data: { method: "request_states" } });
  }

  hear(type, { comm_id: id, data, target_name: target }, buffers) {
    if (id === this.control) {
      if (data?.method === "update_states") this.takeAll(data.states, data.buffer_paths, buffers);
    } else if (type === "comm_open" && target === "jupyter.widget") this.add(id, filled(data.state, data.buffer_paths, buffers));
    else if (type === "comm_close") this.known.delete(id);
    else if (type === "comm_msg") {
      const model = this.known.get(id);
      if (data.method === "update") model?.take(filled(data.state, data.buffer_paths, buffers));
      else if (data.method === "custom") model?.emit("msg:custom", data.content, buffers);
    }
  }

  takeAll(states, paths, buffers) {
    filled(states, paths, buffers);
    for (const [id, { state }] of Object.entries(states)) this.add(id, state);
    this.known.forEach((one) => one.save_changes());
  }

  add(id, state) {
    if (this.known.has(id)) return this.known.get(id).take(state);
    // layouts and the like of stock widgets: nothing here needs them
    if (!state._esm) return undefined;
    this.known.set(id, new Model(this, id, state));
    this.awaited.get(id)?.(this.known.get(id));
    return undefined;
  }

  message(id, data, buffers) {
    return this.kernel.send("comm_msg", { comm_id: id, data }, buffers);
  }

  /** Draws the model of that id into a place, as soon as it is known. */
  async show(id, place) {
    const model = this.known.get(id) ?? (await new Promise((done) => {
      const before = this.awaited.get(id);
      this.awaited.set(id, (found) => { before?.(found); done(found); });
    }));
    return model.show(place);
  }
}
