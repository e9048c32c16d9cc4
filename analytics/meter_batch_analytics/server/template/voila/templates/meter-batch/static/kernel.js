// The kernel's WebSocket (subprotocol v1.kernel.websocket.jupyter.org): messages with buffers, and connecting again.

const PROTOCOL = "v1.kernel.websocket.jupyter.org";
const WAITS = [0.5, 1, 2, 4, 8, 15];
/** After so many seconds without any answer the server is asked whether the kernel is still there. */
const DOUBT_S = 4;
const text = new TextEncoder(), bytes = new TextDecoder();

/** One message as bytes: how many parts, where they begin (the last number: where all ends), then the parts. */
function packed(channel, { header, content, metadata = {}, buffers = [] }) {
  const parts = [channel, ...[header, {}, metadata, content].map((one) => JSON.stringify(one))].map((one) => text.encode(one));
  parts.push(...buffers.map((one) => new Uint8Array(one.buffer ?? one, one.byteOffset ?? 0, one.byteLength)));
  const head = 8 * (parts.length + 2);
  const whole = new Uint8Array(head + parts.reduce((sum, one) => sum + one.length, 0)), view = new DataView(whole.buffer);
  view.setBigUint64(0, BigInt(parts.length + 1), true);
  let at = head;
  parts.forEach((one, index) => {
    view.setBigUint64(8 * (index + 1), BigInt(at), true);
    whole.set(one, at);
    at += one.length;
  });
  view.setBigUint64(8 * (parts.length + 1), BigInt(at), true);
  return whole;
}

function unpacked(data) {
  const view = new DataView(data), count = Number(view.getBigUint64(0, true));
  const at = Array.from({ length: count }, (_, index) => Number(view.getBigUint64(8 * (index + 1), true)));
  const part = (index) => new Uint8Array(data, at[index], at[index + 1] - at[index]);
  const json = (index) => JSON.parse(bytes.decode(part(index)));
  return {
    channel: bytes.decode(part(0)), header: json(1), parent: json(2), metadata: json(3), content: json(4),
    buffers: Array.from({ length: count - 6 }, (_, index) => new DataView(data, at[index + 5], at[index + 6] - at[index + 5])),
  };
}

/** `onopen`, `oncomm(type, content, buffers, metadata)` and `onidle(message id)` are set by who uses it. */
export class Kernel {
  constructor(base, id, { warn, busy, failed }) {
    Object.assign(this, { base, id, warn, busy, failed, session: crypto.randomUUID?.() ?? String(Math.random()).slice(2), tries: 0, over: false });
    queueMicrotask(() => this.connect());
  }

  get open() {
    return this.socket?.readyState === WebSocket.OPEN;
  }

  connect() {
    if (this.over) return;
    const address = new URL(`${this.base}api/kernels/${this.id}/channels?session_id=${this.session}`, location.href);
    address.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    const socket = (this.socket = new WebSocket(address, [PROTOCOL]));
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      this.tries = 0;
      this.warn(null);
      this.onopen?.();
    };
    socket.onmessage = ({ data }) => { if (data instanceof ArrayBuffer) this.take(unpacked(data)); };
    socket.onclose = () => { if (socket === this.socket) this.lost(); };
  }

  take({ header, parent, content, buffers, metadata }) {
    clearTimeout(this.doubt);
    this.doubt = null;
    const type = header.msg_type;
    if (type.startsWith("comm_")) this.oncomm?.(type, content, buffers, metadata);
    // errors of cells stand in the page already
    else if (type === "error" && parent.msg_type?.startsWith("comm_")) this.failed(content.evalue);
    else if (type === "status") {
      const state = content.execution_state;
      if (["dead", "restarting", "autorestarting", "terminating"].includes(state)) this.end("died");
      else this.busy(state === "busy");
      if (state === "idle" && parent.msg_id) this.onidle?.(parent.msg_id);
    }
  }

  /** Tries again, ever more slowly; what the server answers to a plain question says whether it is worth it. */
  async lost() {
    if (this.over || this.waiting) return;
    this.busy(false);
    // a short break is not worth a word
    if (this.tries > 0) this.warn(this.tries > 3 ? "away" : "reconnecting");
    const wait = WAITS[Math.min(this.tries++, WAITS.length - 1)];
    await new Promise((done) => { this.waiting = done; setTimeout(done, wait * 1000); });
    this.waiting = null;
    const there = await this.ask();
    if (there) this.connect();
    else if (!this.over) this.lost();
  }

  /** Asks the server whether the kernel is still there; an end that is certain is said. */
  async ask() {
    try {
      const answer = await fetch(`${this.base}api/kernels/${this.id}`, { redirect: "manual", cache: "no-store" });
      if (answer.status === 404) this.end("ended");
      else if (answer.status === 401 || answer.status === 403 || answer.type === "opaqueredirect") this.end("signed_out");
      return answer.ok;
    } catch {
      return false;
    }
  }

  /** The page is looked at again, or the network is back: now, not when the waiting ends. */
  again() {
    if (this.waiting) this.waiting();
    else if (this.open) this.ask();
  }

  end(word) {
    this.over = true;
    this.gone = word !== "signed_out";
    this.warn(word, true);
    this.socket?.close();
    // the panel around the page can sign in again by itself, and loads it anew
    if (word === "signed_out" && parent !== window) parent.postMessage({ type: "meter-batch-session" }, location.origin);
  }

  /** Sends on the shell channel; the message's id, or null where there is no connection. */
  send(type, content, buffers, metadata) {
    if (!this.open) return null;
    const header = { msg_id: crypto.randomUUID?.() ?? String(Math.random()).slice(2), username: "", session: this.session, date: new Date().toISOString(), msg_type: type, version: "5.3" };
    // a kernel that was ended says nothing; a busy one does not either
    this.doubt ??= setTimeout(() => { this.doubt = null; this.ask(); }, DOUBT_S * 1000);
    this.socket.send(packed("shell", { header, content, buffers, metadata }));
    return header.msg_id;
  }

  /** The page goes: so may its kernel. Also after a lost session: the panel loads the page anew once it has signed in
   * again, and whoever is signed in then can end a kernel of their own only. If nobody is, the server ends it by itself. */
  leave() {
    if (this.gone) return;
    this.over = this.gone = true;
    fetch(`${this.base}voila/api/shutdown/${this.id}`, { method: "POST", keepalive: true, headers: { "X-Meter-Batch": "page" } }).catch(() => {});
  }
}
