import { onEnd } from "../../signals.js";

/**
 * Run a function now and again until the present scope ends. It pauses while the tab is hidden.
 * @param {() => Promise<number | null>} run  returns the seconds until the next run, or null for the last one
 * @returns {() => void} runs it at once
 */
export function repeat(run) {
  /** @type {number | undefined} */
  let timer;
  let isRunning = false, isWanted = false, hasEnded = false;
  const step = async () => {
    clearTimeout(timer);
    if (hasEnded) return;
    if (isRunning) {
      isWanted = true;
      return;
    }
    isRunning = true;
    isWanted = false;
    const seconds = await run();
    isRunning = false;
    if (hasEnded) return;
    if (isWanted) step();
    else if (seconds !== null && !document.hidden) timer = setTimeout(step, seconds * 1000);
  };
  const whenShown = () => document.hidden ? clearTimeout(timer) : step();
  document.addEventListener("visibilitychange", whenShown);
  onEnd(() => {
    hasEnded = true;
    clearTimeout(timer);
    document.removeEventListener("visibilitychange", whenShown);
  });
  step();
  return step;
}
