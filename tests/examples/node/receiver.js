#!/usr/bin/env node
// Receives webhooks and believes only what is signed, each event once.
//
//   RECEIVER_SECRET=whsec_... ./receiver.js [PORT]      Standard Webhooks, by its own library
//   RECEIVER_KEY=... ./receiver.js [PORT]               "signature": "TENCENT_MD5": sign = md5(key + t)
//
// Prints a line for each event; 401 for what is not signed, 200 for what is, even if it came before.
'use strict';

const http = require('node:http');
const { createHash, timingSafeEqual } = require('node:crypto');
const { Webhook } = require('standardwebhooks');

const { RECEIVER_SECRET: secret, RECEIVER_KEY: key } = process.env;
const LARGEST = 1 << 20; // larger bodies are nobody's event
const seen = new Set();

/** A CloudEvent of Standard Webhooks; throws when the signature is wrong. */
function standard(headers, body) {
  const event = new Webhook(secret).verify(body, headers);
  return [event.id, `${event.type} ${event.subject}`];
}

/** One of the vendor's bodies; throws when the signature is wrong. It does not cover the body. */
function vendor(body) {
  const event = JSON.parse(body);
  const { t, sign, ...rest } = event;
  const expected = createHash('md5').update(`${key}${Number(t)}`).digest();
  const given = Buffer.from(String(sign), 'hex');
  if (!(Number(t) >= Date.now() / 1000) || given.length !== expected.length || !timingSafeEqual(given, expected)) {
    throw new Error('the signature is wrong');
  }
  return [JSON.stringify(rest), `event_type=${event.event_type} stream=${event.stream_id}`];
}

function received(request, response, body) {
  try {
    const [identity, line] = secret ? standard(request.headers, body) : vendor(body);
    if (!seen.has(identity)) {
      seen.add(identity);
      console.log(line);
    }
    response.writeHead(200).end();
  } catch {
    console.log('refused');
    response.writeHead(401).end();
  }
}

if (!secret && !key) {
  console.error('RECEIVER_SECRET or RECEIVER_KEY is needed: without it nothing can be believed');
  process.exit(64);
}
const server = http.createServer((request, response) => {
  const parts = [];
  let length = 0;
  request.on('data', (part) => {
    length += part.length;
    if (length > LARGEST) request.destroy();
    parts.push(part);
  });
  request.on('end', () => received(request, response, Buffer.concat(parts).toString()));
});
server.listen(Number(process.argv[2] ?? 8000), '127.0.0.1', () => {
  console.log(`listening on http://127.0.0.1:${server.address().port}/`);
});
