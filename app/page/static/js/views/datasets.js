import { h } from "../dom.js";
import { setTitle, viewHeader } from "../shell.js";

export function render() {
  setTitle("datasets");
  return h("div", viewHeader("datasets"));
}
