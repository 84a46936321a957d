// An OAuth 2.0 provider for the tests: oauth2-mock-server, told by the test what to answer next.
//
// It prints one line of JSON, {"provider": PORT, "control": PORT}, and runs until its standard input ends. The control
// port takes PUT /next, a list of {"status", "body", "raw"} for the next answers of the token endpoint (what is missing is
// the package's own), PUT /always for all answers after those, PUT /revoke for the status codes of the revocation
// endpoint, and GET /seen: every request so far as {"path", "authorization", "form"}. The package comes from
// A67_NPM_MODULES.
'use strict';

const http = require('node:http');
const path = require('node:path');
const { OAuth2Server } = require(path.join(process.env.A67_NPM_MODULES, 'oauth2-mock-server'));

const seen = [];
let next = [];
let always = {};
let revoke = [];

function note(req, form) {
  seen.push({ path: req.path, authorization: req.headers.authorization || null, form });
}

// The package answers with JSON; an answer that is none goes out by itself, and the package's comes too late.
function answerToken(response, req) {
  const wanted = next.length > 0 ? next.shift() : always;
  note(req, { ...req.body });
  if (wanted.raw !== undefined) {
    const res = req.res;
    res.status(wanted.status || 200).type('application/json').end(wanted.raw);
    res.status = () => ({ json: () => undefined });
    return;
  }
  response.statusCode = wanted.status || 200;
  response.body = response.statusCode === 200 ? { ...response.body, ...wanted.body } : wanted.body || {};
}

// The package does not read the body of a revocation.
function answerRevocation(response, req) {
  const chunks = [];
  req.on('data', (chunk) => chunks.push(chunk));
  req.on('end', () => note(req, Object.fromEntries(new URLSearchParams(Buffer.concat(chunks).toString()))));
  response.statusCode = revoke.length > 0 ? revoke.shift() : 200;
}

function control(req, res) {
  const chunks = [];
  req.on('data', (chunk) => chunks.push(chunk));
  req.on('end', () => {
    const body = chunks.length > 0 ? JSON.parse(Buffer.concat(chunks).toString()) : null;
    if (req.url === '/next') next = body;
    else if (req.url === '/always') always = body;
    else if (req.url === '/revoke') revoke = body;
    res.setHeader('Content-Type', 'application/json');
    res.end(JSON.stringify(req.url === '/seen' ? seen : {}));
  });
}

async function main() {
  const server = new OAuth2Server();
  await server.issuer.keys.generate('RS256');
  server.service.on('beforeResponse', answerToken);
  server.service.on('beforeRevoke', answerRevocation);
  await server.start(Number(process.env.A67_OAUTH_PORT || 0), '127.0.0.1');
  const controller = http.createServer(control);
  controller.listen(0, '127.0.0.1', () => {
    console.log(JSON.stringify({ provider: server.address().port, control: controller.address().port }));
  });
  process.stdin.resume();
  process.stdin.on('end', () => process.exit(0));
}

main();
