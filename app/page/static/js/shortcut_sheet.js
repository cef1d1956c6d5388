/** The list of keyboard shortcuts. */

import { h } from "./dom.js";
import { showDialog } from "./parts/overlay.js";
import { shortcuts } from "./shortcuts.js";

export function showShortcuts() {
  const groups = Map.groupBy(shortcuts.peek(), (each) => each.group);
  showDialog({
    title: "Keyboard shortcuts",
    body: () =>
      h(
        "div.dialog-body.shortcut-groups",
        [...groups].map(([group, members]) =>
          h(
            "section",
            h("h3", group),
            h(
              "dl.shortcuts",
              members.map((each) => [
                h(
                  "dt",
                  each.keys.split(" ").map((key) => h("kbd", key)),
                ),
                h("dd", each.description),
              ]),
            ),
          )
        ),
      ),
  });
}
