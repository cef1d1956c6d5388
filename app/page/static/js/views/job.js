import { h } from "../dom.js";
import { setTitle, viewHeader } from "../shell.js";

export function render() {
  setTitle("job");
  return h("div", viewHeader("job"));
}
