// The operations of openapi.json as a list.

import { get } from "./api.js";

const make = (tag, text) => Object.assign(document.createElement(tag), { textContent: text });
const schema = await get("/openapi.json");

function kind(part) {
  if (part.$ref) return part.$ref.split("/").at(-1);
  if (part.anyOf) return part.anyOf.map(kind).join(" or ");
  if (part.type === "array") return `[${kind(part.items)}]`;
  return part.type ?? "anything";
}

for (const [path, methods] of Object.entries(schema.paths)) {
  for (const [method, operation] of Object.entries(methods)) {
    const article = document.createElement("article"), head = document.createElement("p");
    head.append(make("code", `${method.toUpperCase()} ${path}`));
    article.append(head, make("p", operation.summary ?? ""));
    const lines = (operation.parameters ?? []).map((p) =>
      `${p.in === "query" ? "?" : ""}${p.name}: ${kind(p.schema)}${p.required ? "" : ", optional"}`);
    const body = operation.requestBody?.content["application/json"]?.schema.$ref;
    if (body) {
      const model = schema.components.schemas[body.split("/").at(-1)];
      for (const [name, part] of Object.entries(model.properties)) {
        const needed = model.required?.includes(name) ? "" : `, default ${JSON.stringify(part.default ?? null)}`;
        lines.push(`${name}: ${kind(part)}${needed}${part.description ? `  (${part.description})` : ""}`);
      }
    }
    if (lines.length) article.append(make("pre", lines.join("\n")));
    document.getElementById("operations").append(article);
  }
}
