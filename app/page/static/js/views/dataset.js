import { h } from "../dom.js";
import { setTitle, viewHeader } from "../shell.js";

export function render() {
  setTitle("dataset");
  return h("div", viewHeader("dataset"));
}
