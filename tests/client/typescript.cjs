// The ten things that programs do most with the official SDK for TypeScript. Prints what came of each as JSON.
// The environment is what claude-local gives a command; the one argument is where the SDK is installed.
const { createRequire } = require("node:module");
const installed = createRequire(`${process.argv[2]}/`);
const { Anthropic } = installed("@anthropic-ai/sdk");
const { betaTool } = installed("@anthropic-ai/sdk/helpers/beta/json-schema");

const client = new Anthropic({ maxRetries: 0 });
const model = process.env.ANTHROPIC_MODEL;
const tool = (name, parameter) => ({
  name,
  description: name,
  input_schema: { type: "object", properties: { [parameter]: { type: "string" } }, required: [parameter] },
});
const tools = [tool("read_file", "path"), tool("Bash", "command")];
const hello = { model, max_tokens: 100, messages: [{ role: "user", content: "Hello in 5 words" }] };
const run = { model, max_tokens: 100, tools, messages: [{ role: "user", content: "run ls" }] };
const text = (message) => message.content.filter((block) => block.type === "text").map((block) => block.text).join("");

const failure = async (work) => {
  try {
    await work();
    return null;
  } catch (error) {
    return { kind: error.constructor.name, status: error.status, requestID: error.requestID, type: error.error?.error?.type };
  }
};

const things = {
  async create() {
    const message = await client.messages.create(hello);
    return { text: text(message), stop: message.stop_reason, usage: message.usage, id: message._request_id };
  },
  async stream() {
    const pieces = [];
    const stream = client.messages.stream(hello).on("text", (piece) => pieces.push(piece));
    const message = await stream.finalMessage();
    return { pieces, text: text(message), stop: message.stop_reason };
  },
  async streamed_call() {
    const pieces = [];
    const stream = client.messages.stream(run).on("inputJson", (piece) => pieces.push(piece));
    const message = await stream.finalMessage();
    return { pieces, call: message.content.at(-1), stop: message.stop_reason };
  },
  async round_trip() {
    const first = await client.messages.create(run);
    const result = { type: "tool_result", tool_use_id: first.content.at(-1).id, content: "stone garden lamp" };
    const said = [...run.messages, { role: "assistant", content: first.content }, { role: "user", content: [result] }];
    const second = await client.messages.create({ ...run, messages: said });
    return { stop: second.stop_reason, text: text(second), usage: second.usage };
  },
  async count() {
    const { max_tokens, ...asked } = run;
    const counted = await client.messages.countTokens(asked);
    const { usage } = await client.messages.create({ ...run, max_tokens: 1 });
    return { counted: counted.input_tokens, billed: usage.input_tokens + usage.cache_read_input_tokens };
  },
  async models() {
    const ids = [];
    for await (const each of client.models.list({ limit: 2 })) ids.push(each.id);
    return ids;
  },
  async one_model() {
    return await client.models.retrieve(model);
  },
  async errors() {
    const stranger = new Anthropic({ maxRetries: 0, authToken: "no" });
    return [
      await failure(() => client.messages.create({ ...hello, max_tokens: -1 })),
      await failure(() => client.models.retrieve("no-such-model")),
      await failure(() => stranger.messages.create(hello)),
      await failure(() => client.messages.stream({ ...hello, messages: [] }).finalMessage()),
    ];
  },
  async runner() {
    const runnable = ({ name, description, input_schema: inputSchema }, run) => betaTool({ name, description, inputSchema, run });
    const ran = [];
    const note = (name) => (input) => (ran.push([name, input]), "stone garden lamp");
    const tools_that_run = tools.map((each) => runnable(each, note(each.name)));
    const message = await client.beta.messages.toolRunner({ ...run, tools: tools_that_run }).runUntilDone();
    return { ran, stop: message.stop_reason };
  },
  async abort() {
    const stream = client.messages.stream(hello);
    const heard = [];
    const ended = failure(() => stream.finalMessage());
    await failure(async () => {
      for await (const event of stream) {
        heard.push(event.type);
        stream.abort();
      }
    });
    return { heard, ended: await ended };
  },
  async structured() {
    const schema = {
      type: "object",
      properties: { way: { enum: ["up", "down"] }, up: { type: "boolean" } },
      required: ["way", "up"],
      additionalProperties: false,
    };
    const asked = { ...hello, system: "Be short.", output_config: { format: { type: "json_schema", schema } } };
    return JSON.parse(text(await client.messages.create(asked)));
  },
};

(async () => {
  const results = {};
  for (const [name, thing] of Object.entries(things)) results[name] = await thing();
  console.log(JSON.stringify(results));
})();
