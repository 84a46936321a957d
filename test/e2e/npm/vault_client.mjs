// The recipe of docs/vault-client.md as a browser would run it: takes the script out of the page, gives it hash-wasm
// (from A67_NPM_MODULES) and node's WebCrypto, and does one thing. Reads {"page", "do": "seal" or "open", "name",
// "passphrase", and "plaintext", "salt", "if_version" or "item"} from standard input, prints {"result"} or {"error"}.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { webcrypto } from 'node:crypto';

globalThis.crypto ??= webcrypto;
globalThis.hashWasm = createRequire(`${process.env.A67_NPM_MODULES}/`)('hash-wasm');

const given = JSON.parse(readFileSync(0, 'utf8'));
const page = readFileSync(given.page, 'utf8');
const script = page.match(/```js\n([^]*?)```/)[1]
  .replace("import { argon2id } from 'hash-wasm';", 'const { argon2id } = globalThis.hashWasm;');
const recipe = await import(`data:text/javascript;base64,${Buffer.from(script).toString('base64')}`);

async function act() {
  if (given.do === 'open') return recipe.open(given.name, given.item, given.passphrase);
  const salt = Uint8Array.from(Buffer.from(given.salt, 'base64'));
  const key = await recipe.vaultKey(given.passphrase, salt);
  return recipe.seal(given.name, given.plaintext, key, salt, given.if_version);
}

try {
  console.log(JSON.stringify({ result: await act() }));
} catch (error) {
  console.log(JSON.stringify({ error: error.name }));
}
