/**
 * Says what to do about each problem of a dataset. A test compares the codes and severities with the server's.
 */

/**
 * @typedef {{severity: "error" | "warning", title: string, instead: string, wrong?: string, right?: string}} Advice
 *   `wrong` and `right` are an example before and after
 */

/** @type {Readonly<Record<string, Advice>>} */
export const ADVICE = {
  // The file
  no_rows: {
    severity: "error",
    title: "The file has no rows",
    instead: "Write one JSON object on each line.",
    right: `{"prompt": "2 + 2 = ", "completion": "4"}`,
  },
  file_missing: {
    severity: "error",
    title: "The file is missing from storage",
    instead: "Upload the file again, and tell the operator: something outside of Tunewright removed it.",
  },
  source_deleted: {
    severity: "error",
    title: "The source dataset was deleted",
    instead: "Upload the source file again and clean it again. Delete it only when the cleaned dataset is ready.",
  },
  md5_mismatch: {
    severity: "error",
    title: "The MD5 differs",
    instead: "The file changed while it was sent, or its parts were named in another order. Upload it again.",
  },
  unreadable_file: {
    severity: "error",
    title: "The file cannot be read",
    instead: "The message says how far it was read. Check that the file opens on your machine, then upload it again.",
  },
  truncated_file: {
    severity: "error",
    title: "The file ends too early",
    instead: "It was not written or sent completely. Write it again, check it (gzip -t, zstd -t), and upload it again.",
  },
  corrupt_compression: {
    severity: "error",
    title: "The data cannot be decompressed",
    instead: "Compress the file again, or upload it without compression.",
  },
  corrupt_parquet: {
    severity: "error",
    title: "The Parquet file is damaged",
    instead: "Write the file again with one column for each key, or write JSON Lines.",
  },
  decompressed_too_large: {
    severity: "error",
    title: "The file expands too far",
    instead: "Split the rows over several files of less than 40 GB each when decompressed.",
  },
  row_group_too_large: {
    severity: "error",
    title: "A row group is too large",
    instead: "Write smaller row groups, for example row_group_size=10_000 in pyarrow.",
    right: `pyarrow.parquet.write_table(table, "rows.parquet", row_group_size=10_000)`,
  },
  unsupported_compression: {
    severity: "error",
    title: "The compression is not supported",
    instead: "Compress the file once, with gzip or zstd, or not at all.",
    wrong: "rows.jsonl.bz2",
    right: "rows.jsonl.gz",
  },
  zip_archive: {
    severity: "error",
    title: "The file is a zip archive",
    instead: "Unpack it, and upload each file of rows by itself.",
    wrong: "rows.zip",
    right: "rows.jsonl",
  },
  tar_archive: {
    severity: "error",
    title: "The file is a tar archive",
    instead: "Unpack it, and upload each file of rows by itself.",
    wrong: "rows.tar.gz",
    right: "rows.jsonl.gz",
  },
  spreadsheet: {
    severity: "error",
    title: "The file is a workbook",
    instead: "Export the sheet as CSV in UTF-8, and name its columns as a format requires.",
    wrong: "rows.xlsx",
    right: "prompt,completion\n2 + 2 = ,4",
  },
  pdf_document: {
    severity: "error",
    title: "The file is a PDF document",
    instead: "Extract the text, and write it as JSON Lines: one document on each line.",
    right: `{"text": "The first document.\\nIts second line."}`,
  },
  html_page: {
    severity: "error",
    title: "The file is a web page",
    instead: "The download probably saved a login or error page. Open the file, download it again, and upload that.",
  },
  unsupported_container: {
    severity: "error",
    title: "The file type is not supported",
    instead: "Write the rows as JSON Lines, JSON, CSV or Parquet.",
    right: `dataset.to_json("rows.jsonl")   # Hugging Face datasets`,
  },
  unrecognized_file: {
    severity: "error",
    title: "The file type is not known",
    instead: "Write one JSON object on each line. For plain text, name the file .txt or choose the format text.",
    wrong: "2 + 2 = => 4",
    right: `{"prompt": "2 + 2 = ", "completion": "4"}`,
  },
  single_json_object: {
    severity: "error",
    title: "The file is one JSON object",
    instead: "Write an array of rows, or one object on each line.",
    wrong: `{\n  "rows": [{"text": "a"}, {"text": "b"}]\n}`,
    right: `[\n  {"text": "a"},\n  {"text": "b"}\n]`,
  },
  unterminated_array: {
    severity: "error",
    title: "The array does not end",
    instead: "Close the array with ]. If the file was cut off, write and upload it again.",
    wrong: `[{"text": "a"}, {"text": "b"}`,
    right: `[{"text": "a"}, {"text": "b"}]`,
  },
  trailing_data: {
    severity: "error",
    title: "Something follows the array",
    instead: "Keep one array in the file, with all rows in it.",
    wrong: `[{"text": "a"}]\n[{"text": "b"}]`,
    right: `[{"text": "a"}, {"text": "b"}]`,
  },
  missing_header: {
    severity: "error",
    title: "The CSV file has no usable header",
    instead: "Name a format's columns in the first row, or map your names when you upload the file.",
    wrong: "What is 2 + 2?,4",
    right: "prompt,completion\nWhat is 2 + 2?,4",
  },
  duplicate_column: {
    severity: "error",
    title: "A CSV column occurs twice",
    instead: "Give each column its own name, or remove one of them.",
    wrong: "prompt,prompt,completion",
    right: "prompt,completion",
  },
  unclosed_quote: {
    severity: "error",
    title: "A CSV quote is not closed",
    instead: 'Close the quote, and write a quote inside a cell twice ("").',
    wrong: 'prompt,completion\n"Say "hi",hi',
    right: 'prompt,completion\n"Say ""hi""",hi',
  },
  unsafe_filename: {
    severity: "warning",
    title: "The file name was changed",
    instead: "Its characters that do not print were removed. Nothing has to be done; the rows are not affected.",
  },
  crlf_line_endings: {
    severity: "warning",
    title: "Lines end as on Windows",
    instead: "Nothing has to be done: the carriage returns are not read as text.",
  },
  text_lines_are_rows: {
    severity: "warning",
    title: "Each line is a document",
    instead: "If your documents have several lines, write them as JSON Lines.",
    wrong: "First line of a document\nSecond line of the same",
    right: `{"text": "First line of a document\\nSecond line of the same"}`,
  },

  // A line
  line_too_long: {
    severity: "error",
    title: "A row is too long",
    instead: "Split the row into several of at most 8 MiB. In CSV, check that its quotes are closed.",
  },
  not_utf8: {
    severity: "error",
    title: "The text is not UTF-8",
    instead: "Save the file as UTF-8.",
    right: "iconv -f latin1 -t utf-8 rows.jsonl > rows-utf8.jsonl",
  },
  nul_bytes: {
    severity: "error",
    title: "There are NUL bytes",
    instead: "The file was not written completely, or is not text. Write it again.",
  },
  not_json: {
    severity: "error",
    title: "A line is not JSON",
    instead: "Write one complete JSON object on each line: double quotes, no comma at the end, line breaks as \\n.",
    wrong: `{'prompt': 'Hello', 'completion': 'Hi',}`,
    right: `{"prompt": "Hello", "completion": "Hi"}`,
  },
  not_an_object: {
    severity: "error",
    title: "A line is not an object",
    instead: "Write an object with the keys of a format.",
    wrong: `["Hello", "Hi"]`,
    right: `{"prompt": "Hello", "completion": "Hi"}`,
  },
  ragged_row: {
    severity: "error",
    title: "A CSV row has another number of cells",
    instead: "Quote cells that contain a comma, and write an empty cell for a missing value.",
    wrong: "prompt,completion\nHello, you,Hi",
    right: 'prompt,completion\n"Hello, you",Hi',
  },
  invalid_csv_row: {
    severity: "error",
    title: "A CSV row has a misplaced quote",
    instead: "Quote the whole cell, and write a quote inside it twice.",
    wrong: 'Say "hi",hi',
    right: '"Say ""hi""",hi',
  },
  invalid_json_cell: {
    severity: "error",
    title: "A CSV cell is not JSON",
    instead: "Cells of messages, conversations, tools and history contain JSON, with each quote written twice.",
    wrong: `messages\n[{'role': 'user', 'content': 'Hi'}]`,
    right: `messages\n"[{""role"": ""user"", ""content"": ""Hi""}]"`,
  },
  column_conflict: {
    severity: "error",
    title: "A mapped key exists already",
    instead: "Remove the key that the mapping replaces, or upload the file without that mapping.",
    wrong: `columns {"prompt": "input"}\n{"input": "Hello", "prompt": "Hi", "completion": "…"}`,
    right: `columns {"prompt": "input"}\n{"input": "Hello", "completion": "…"}`,
  },
  invalid_number: {
    severity: "error",
    title: "A number is not allowed",
    instead: "Write null or a string instead of NaN, Infinity and numbers with more than a thousand digits.",
    wrong: `{"text": "a", "score": NaN}`,
    right: `{"text": "a", "score": null}`,
  },
  duplicate_key: {
    severity: "error",
    title: "A key occurs twice",
    instead: "Keep one of the two values.",
    wrong: `{"text": "a", "text": "b"}`,
    right: `{"text": "a"}`,
  },
  lone_surrogate: {
    severity: "error",
    title: "Half of a character is missing",
    instead: "Write both halves of the pair, or the character itself.",
    wrong: `{"text": "\\ud83d"}`,
    right: `{"text": "\\ud83d\\ude00"}`,
  },
  nesting_too_deep: {
    severity: "error",
    title: "A row is nested too deeply",
    instead: "Write the inner values as a string of JSON, or leave them out.",
    wrong: `{"text": "a", "meta": [[[[[[…]]]]]]}`,
    right: `{"text": "a"}`,
  },
  byte_order_mark: {
    severity: "warning",
    title: "A line begins with a byte order mark",
    instead: "Nothing has to be done: the mark is not read as text. To avoid it, save as UTF-8 without a mark.",
  },

  // A row
  unknown_format: {
    severity: "error",
    title: "The keys match no format",
    instead: "Rename the keys, or upload the file again with a column mapping.",
    wrong: `{"question": "2 + 2?", "answer": "4"}`,
    right: `{"prompt": "2 + 2?", "completion": "4"}`,
  },
  mixed_formats: {
    severity: "error",
    title: "The file has rows of several formats",
    instead: "Write one format per file; upload the other rows as a dataset of their own.",
    wrong: `{"text": "a"}\n{"prompt": "b", "completion": "c"}`,
    right: `{"prompt": "", "completion": "a"}\n{"prompt": "b", "completion": "c"}`,
  },
  missing_key: {
    severity: "error",
    title: "A row lacks a key of the chosen format",
    instead: "Add the key, or upload the file again with another format or with a column mapping.",
    wrong: `{"prompt": "Hello"}`,
    right: `{"prompt": "Hello", "completion": "Hi"}`,
  },
  wrong_type: {
    severity: "error",
    title: "A value has the wrong type",
    instead: "Write a string, a list of turns or an object, as the message says.",
    wrong: `{"prompt": 12, "completion": ["4"]}`,
    right: `{"prompt": "12", "completion": "4"}`,
  },
  unknown_role: {
    severity: "error",
    title: "A turn has an unknown role",
    instead: "Use system, developer, user, assistant or tool; in sharegpt system, human, gpt, function_call, observation " +
      "or tool.",
    wrong: `{"role": "bot", "content": "Hi"}`,
    right: `{"role": "assistant", "content": "Hi"}`,
  },
  image_part_unsupported: {
    severity: "error",
    title: "A turn has an image",
    instead: "Only text is read. Remove the image, describe it in text, or remove the row.",
    wrong: `{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "…"}}]}`,
    right: `{"role": "user", "content": "A photo of a red car. What colour is it?"}`,
  },
  audio_part_unsupported: {
    severity: "error",
    title: "A turn has audio",
    instead: "Only text is read. Write the transcript, or remove the row.",
    wrong: `{"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "…"}}]}`,
    right: `{"role": "user", "content": "Please cancel my order."}`,
  },
  video_part_unsupported: {
    severity: "error",
    title: "A turn has a video",
    instead: "Only text is read. Remove the part or the row.",
    wrong: `{"role": "user", "content": [{"type": "video_url", "video_url": {"url": "…"}}]}`,
    right: `{"role": "user", "content": "What is shown in the first scene?"}`,
  },
  file_part_unsupported: {
    severity: "error",
    title: "A turn has a file",
    instead: "Only text is read. Write the file's text into the turn, or remove the row.",
    wrong: `{"role": "user", "content": [{"type": "file", "file": {"file_id": "…"}}]}`,
    right: `{"role": "user", "content": "Summarize this report:\\n…"}`,
  },
  unknown_part: {
    severity: "error",
    title: "A part of a turn has an unknown type",
    instead: "Write the content as a string, or as parts of the type text.",
    wrong: `{"role": "user", "content": [{"type": "input_text", "text": "Hi"}]}`,
    right: `{"role": "user", "content": [{"type": "text", "text": "Hi"}]}`,
  },
  refusal_beside_content: {
    severity: "error",
    title: "A turn has content and a refusal",
    instead: "Keep one of the two.",
    wrong: `{"role": "assistant", "content": "Sure", "refusal": "I cannot help with that."}`,
    right: `{"role": "assistant", "content": null, "refusal": "I cannot help with that."}`,
  },
  legacy_functions: {
    severity: "error",
    title: "A row uses OpenAI's old functions",
    instead: "Write tools, tool_calls and the role tool.",
    wrong: `{"role": "assistant", "function_call": {"name": "add", "arguments": "{}"}}`,
    right: `{"role": "assistant", "content": null, "tool_calls": [{"id": "c1", "type": "function",\n` +
      `  "function": {"name": "add", "arguments": "{}"}}]}`,
  },
  invalid_weight: {
    severity: "error",
    title: "A weight is neither 0 nor 1",
    instead: "Write 1 to train on the turn, or 0 to keep it as context.",
    wrong: `{"role": "assistant", "content": "Hi", "weight": 0.5}`,
    right: `{"role": "assistant", "content": "Hi", "weight": 1}`,
  },
  no_conversation: {
    severity: "error",
    title: "There are only system turns",
    instead: "Add a user's turn and an assistant's turn.",
    wrong: `{"messages": [{"role": "system", "content": "Be brief."}]}`,
    right: `{"messages": [{"role": "system", "content": "Be brief."},\n` +
      `  {"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}]}`,
  },
  no_trainable_text: {
    severity: "error",
    title: "There is nothing to learn from",
    instead: "Add an answer with text, or remove the row.",
    wrong: `{"messages": [{"role": "user", "content": "Hello"}]}`,
    right: `{"messages": [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}]}`,
  },
  unused_key: {
    severity: "warning",
    title: "A key is not read",
    instead: "If training should read it, rename it to a key of the format or map it. Otherwise nothing has to be done.",
    wrong: `{"prompt": "Hello", "completion": "Hi", "sytem": "Be brief."}`,
    right: `{"system": "Be brief.", "instruction": "Hello", "output": "Hi"}`,
  },
  empty_content: {
    severity: "warning",
    title: "A turn is empty",
    instead: "Write its content, or remove the turn.",
    wrong: `{"role": "user", "content": ""}`,
    right: `{"role": "user", "content": "Hello"}`,
  },
  assistant_speaks_first: {
    severity: "warning",
    title: "The assistant speaks first",
    instead: "Begin with a user's turn, unless the model should open the conversation. Some chat templates refuse it.",
    wrong: `[{"role": "assistant", "content": "How can I help?"}, …]`,
    right: `[{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "How can I help?"}, …]`,
  },
  consecutive_same_role: {
    severity: "warning",
    title: "Two turns in a row have one role",
    instead: "Merge the turns, or add the missing one between them. Some chat templates refuse them.",
    wrong: `[{"role": "user", "content": "Hello."}, {"role": "user", "content": "Are you there?"}]`,
    right: `[{"role": "user", "content": "Hello.\\nAre you there?"}]`,
  },
  unanswered_tool_call: {
    severity: "warning",
    title: "A tool call has no result",
    instead: "Add a tool's turn with the call's id directly after the call.",
    wrong: `{"role": "assistant", "tool_calls": [{"id": "c1", …}]}\n{"role": "assistant", "content": "It is 4."}`,
    right: `{"role": "assistant", "tool_calls": [{"id": "c1", …}]}\n` +
      `{"role": "tool", "tool_call_id": "c1", "content": "4"}\n{"role": "assistant", "content": "It is 4."}`,
  },
  identical_answers: {
    severity: "warning",
    title: "Both answers are the same",
    instead: "Such a pair teaches nothing. Change one of the answers, or remove the row.",
    wrong: `{"prompt": "Late?", "chosen": "Yes.", "rejected": "Yes."}`,
    right: `{"prompt": "Late?", "chosen": "Yes, it is past ten.", "rejected": "Yes."}`,
  },
  control_character: {
    severity: "warning",
    title: "A text has a control character",
    instead: "Remove it, unless the model should learn it.",
    wrong: `{"text": "a\\u0000b"}`,
    right: `{"text": "ab"}`,
  },
  long_row: {
    severity: "warning",
    title: "A row is very long",
    instead: "Split it, or it is truncated at max_seq_len. The preview shows what is left of it.",
  },
  duplicate_row: {
    severity: "warning",
    title: "A row occurs twice",
    instead: "Clean the dataset and drop duplicates, unless the row should count twice.",
  },
  near_duplicate_row: {
    severity: "warning",
    title: "A row differs only in white space or case",
    instead: "Remove one of the rows from the file, unless both are meant.",
  },
};

/**
 * Return the severity of a code. A code of a newer server counts as an error.
 * @param {string} code
 */
export function severityOf(code) {
  return ADVICE[code]?.severity ?? "error";
}

/**
 * Return how many errors and warnings a dataset has.
 * @param {Record<string, number>} counts  problems by code
 */
export function countSeverities(counts) {
  const sums = { error: 0, warning: 0 };
  for (const [code, count] of Object.entries(counts)) sums[severityOf(code)] += count;
  return sums;
}

/**
 * Return the codes with their counts: errors first, then the most frequent.
 * @param {Record<string, number>} counts
 * @returns {{code: string, count: number, severity: "error" | "warning"}[]}
 */
export function sortCodes(counts) {
  return Object.entries(counts)
    .map(([code, count]) => ({ code, count, severity: severityOf(code) }))
    .sort((a, b) => (a.severity < b.severity ? -1 : a.severity > b.severity ? 1 : b.count - a.count));
}
