/** Keeps the end of a growing list in view while the user is there. */

import { effect, onEnd } from "../../signals.js";

const SLACK = 24;

/**
 * Scroll a box to its end when its content grows, unless the user has scrolled away from the end.
 * @param {HTMLElement} box
 * @param {() => unknown} read  reads what the content depends on
 * @param {boolean} [isAtEnd]  whether it begins at its end
 */
export function followEnd(box, read, isAtEnd = true) {
  const end = () => box.scrollHeight - box.clientHeight;
  box.addEventListener("scroll", () => (isAtEnd = box.scrollTop >= end() - SLACK), { passive: true });
  let frame = 0;
  effect(() => {
    read();
    cancelAnimationFrame(frame);
    if (isAtEnd) frame = requestAnimationFrame(() => (box.scrollTop = end()));
  });
  onEnd(() => cancelAnimationFrame(frame));
}
