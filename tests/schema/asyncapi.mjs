// node asyncapi.mjs FILE: what the official parser finds wrong, a line each; 1 if there is anything
import { readFileSync } from "node:fs"
import { Parser } from "@asyncapi/parser"

const { document, diagnostics } = await new Parser().parse(readFileSync(process.argv[2], "utf8"))
const errors = diagnostics.filter(({ severity }) => severity === 0)
for (const { path, message } of errors) console.log(`${path.join(".")}: ${message}`)
if (document !== undefined) {
  const operations = document.operations().all()
  console.log(JSON.stringify({ operations: operations.length, channels: document.channels().all().length }))
}
process.exit(errors.length ? 1 : 0)
