/**
 * Turns pointer, wheel and keyboard events on a canvas into what the user wants.
 *
 * @module
 */

/**
 * @typedef {object} GestureHandler
 * @property {(px: number, py: number) => void} hover
 * @property {() => void} leave
 * @property {(range: [number, number] | null) => void} select shows the range being selected
 * @property {(from: number, to: number) => void} zoomTo
 * @property {() => void} begin a pan or pinch begins
 * @property {(dx: number) => void} pan
 * @property {(factor: number, px: number, dx: number) => void} pinch
 * @property {() => void} settle a pan or pinch ends
 * @property {(px: number, py: number) => void} tap
 * @property {() => void} reset
 * @property {(event: KeyboardEvent) => boolean} key returns whether the key was used
 */

/** Pixels that a pointer may move in a click. */
const CLICK_SLACK = 4;

/** Milliseconds after the last wheel event that end a pan or zoom. */
const WHEEL_END = 180;

/** Listens on one canvas. */
export class Gestures {
  /**
   * @param {HTMLCanvasElement} canvas
   * @param {GestureHandler} handler
   */
  constructor(canvas, handler) {
    this.canvas = canvas;
    this.handler = handler;
    /** @type {Map<number, { x: number, y: number }>} */
    this.pointers = new Map();
    /** @type {"none" | "select" | "pan" | "scrub" | "pinch"} */
    this.mode = "none";
    this.start = { x: 0, y: 0 };
    this.hasMoved = false;
    this.wheelTimer = 0;
    canvas.addEventListener("pointerdown", (event) => this.#press(event));
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    canvas.addEventListener("pointerup", (event) => this.#release(event, true));
    canvas.addEventListener("pointercancel", (event) => this.#release(event, false));
    canvas.addEventListener("pointerleave", (event) => {
      if (event.pointerType === "mouse" && this.mode === "none") handler.leave();
    });
    canvas.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    canvas.addEventListener("dblclick", () => handler.reset());
    canvas.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (!handler.key(event)) return;
      event.preventDefault();
      event.stopPropagation();
    });
  }

  /** @param {MouseEvent} event */
  #locate(event) {
    const box = this.canvas.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  }

  /** @param {PointerEvent} event */
  #press(event) {
    if (event.button !== 0) return;
    const at = this.#locate(event);
    this.pointers.set(event.pointerId, at);
    this.canvas.setPointerCapture(event.pointerId);
    if (this.pointers.size === 2) {
      if (this.mode === "select") this.handler.select(null);
      this.mode = "pinch";
      this.hasMoved = true;
      this.handler.begin();
      return;
    }
    this.start = at;
    this.hasMoved = false;
    if (event.pointerType === "touch") this.mode = "scrub";
    else this.mode = event.shiftKey ? "pan" : "select";
    if (this.mode === "pan") this.handler.begin();
  }

  /** @param {PointerEvent} event */
  #move(event) {
    const at = this.#locate(event);
    const before = this.pointers.get(event.pointerId);
    if (!before) {
      if (event.pointerType !== "touch") this.handler.hover(at.x, at.y);
      return;
    }
    if (this.mode === "pinch") this.#pinch(event.pointerId, before, at);
    this.pointers.set(event.pointerId, at);
    if (Math.abs(at.x - this.start.x) > CLICK_SLACK) this.hasMoved = true;
    if (!this.hasMoved) return;
    if (this.mode === "select") this.handler.select([this.start.x, at.x]);
    if (this.mode === "pan") this.handler.pan(at.x - before.x);
    if (this.mode === "scrub" || this.mode === "select") this.handler.hover(at.x, at.y);
  }

  /**
   * @param {number} id
   * @param {{ x: number }} before
   * @param {{ x: number }} at
   */
  #pinch(id, before, at) {
    const other = [...this.pointers].find(([key]) => key !== id)?.[1];
    if (!other) return;
    const distance = Math.max(20, Math.abs(at.x - other.x));
    const factor = Math.max(20, Math.abs(before.x - other.x)) / distance;
    this.handler.pinch(factor, (at.x + other.x) / 2, (at.x - before.x) / 2);
  }

  /**
   * @param {PointerEvent} event
   * @param {boolean} isDone
   */
  #release(event, isDone) {
    if (!this.pointers.delete(event.pointerId)) return;
    const at = this.#locate(event);
    const { mode } = this;
    if (mode === "pinch" && this.pointers.size > 0) return;
    this.mode = "none";
    if (mode === "pinch" || mode === "pan") this.handler.settle();
    if (mode === "select") this.handler.select(null);
    if (!isDone) return;
    if (!this.hasMoved) this.handler.tap(at.x, at.y);
    else if (mode === "select") this.handler.zoomTo(Math.min(this.start.x, at.x), Math.max(this.start.x, at.x));
  }

  /** @param {WheelEvent} event */
  #wheel(event) {
    const isPan = !event.ctrlKey && (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY));
    if (!isPan && !event.ctrlKey) return;
    event.preventDefault();
    if (this.wheelTimer === 0) this.handler.begin();
    clearTimeout(this.wheelTimer);
    this.wheelTimer = setTimeout(() => {
      this.wheelTimer = 0;
      this.handler.settle();
    }, WHEEL_END);
    const size = event.deltaMode === 1 ? 16 : 1;
    if (isPan) this.handler.pan(-(event.deltaX || event.deltaY) * size);
    else this.handler.pinch(Math.exp(Math.max(-60, Math.min(60, event.deltaY * size)) / 120), this.#locate(event).x, 0);
  }
}
