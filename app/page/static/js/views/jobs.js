import { h } from "../dom.js";
import { setTitle, viewHeader } from "../shell.js";

export function render() {
  setTitle("jobs");
  return h("div", viewHeader("jobs"));
}
