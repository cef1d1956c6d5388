import { h } from "../../dom.js";
import { copyButton } from "../../parts/basic.js";
import { EXAMPLES } from "../../pure/dataset_options.js";

/** Show one line of JSON Lines of each format, to start from. */
export function formatExamples() {
  return h(
    "section.format-examples",
    h("h2", "One line of each format"),
    h("p.quiet", "A file has one format. It is detected from the first row; other key names can be mapped."),
    h(
      "ul",
      EXAMPLES.map(({ format, use, line }) =>
        h(
          "li",
          h(
            "div.example-head",
            h("p", h("strong", h("code", format)), " ", h("span.quiet", use)),
            copyButton(() => `${line}\n`, `Copy the line of ${format}`),
          ),
          h("pre.code", { tabindex: 0, role: "region", "aria-label": `Example of ${format}` }, line),
        )
      ),
    ),
  );
}
