/** A clock for times that pass while they are looked at. */

import { onEnd, signal } from "../../signals.js";

/**
 * Return the present instant in milliseconds, once a second, until the present scope ends. It stops while the tab is
 * hidden.
 * @returns {() => number}
 */
export function followClock() {
  const now = signal(Date.now());
  const timer = setInterval(() => {
    if (!document.hidden) now.value = Date.now();
  }, 1000);
  onEnd(() => clearInterval(timer));
  return () => now.value;
}
