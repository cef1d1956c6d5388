/** Says what to do about problems of rows that can be read. */

/** @type {Readonly<Record<string, import("./dataset_advice.js").Advice>>} */
export const ROW_ADVICE = {
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
    instead:
      "Use system, developer, user, assistant or tool; in sharegpt system, human, gpt, function_call, observation " +
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
    instead:
      "If training should read it, rename it to a key of the format or map it. Otherwise nothing has to be done.",
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
