import { h } from "../dom.js";
import { setTitle, viewHeader } from "../shell.js";

export function render() {
  setTitle("adapters");
  return h("div", viewHeader("adapters"));
}
