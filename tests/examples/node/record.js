#!/usr/bin/env node
// Records what is published on a domain: makes a storage, a template and a domain, binds them, watches the next
// recording to its end, and prints its files.
//
//   npm ci && ./record.js localhost:7080 push.example.com cam1 [directory in the library]
//
// RECCTL_TOKEN is sent as the bearer token, RECCTL_CA (PEM) turns TLS on.
'use strict';

const { setTimeout: pause } = require('node:timers/promises');
const { services, status } = require('./client');

const OVER = ['SUCCEEDED', 'INCOMPLETE', 'FAILED'];
const AGAIN = [status.UNAVAILABLE, status.UNKNOWN, status.CANCELLED];

/** Creates something, or finds it there. */
async function create(call) {
  try {
    await call;
  } catch (error) {
    if (error.code !== status.ALREADY_EXISTS) throw error;
  }
}

/** Storage, template, domain and binding; resolves when every media node has applied the binding. */
async function prepare(api, domain, directory) {
  // A bucket instead: { s3: { bucket, region, access_key_id, secret_access_key } }.
  const storage = { file_system: { directory } };
  await create(api.StorageService.CreateStorage({ storage_id: 'node', storage }));
  const template = {
    storage: 'storages/node',
    mp4: { max_file_duration: { seconds: 3600 } },
    hls: { segment_duration: { seconds: 2 } },
  };
  await create(api.TemplateService.CreateTemplate({ template_id: 'node', template }));
  await create(api.DomainService.CreateDomain({ domain_id: domain }));
  await api.DomainService.BindTemplate({ template: 'node', domains: [domain] });
  for (;;) {
    const { bindings } = await api.DomainService.ListBindings({ domain, template: 'node' });
    if (bindings.length > 0 && bindings.every((binding) => binding.state === 'ACTIVE')) return;
    await pause(100);
  }
}

/** The next recording of the stream, once it is over. The token misses nothing, whatever breaks in between. */
async function watch(api, stream, token) {
  let resume = token;
  for (;;) {
    try {
      const messages = api.RecordingService.WatchRecordings({ stream, resume_token: resume });
      for await (const message of messages) {
        resume = message.resume_token || resume;
        const { recording } = message;
        if (!recording) continue;
        console.log(`${recording.name} ${recording.state}`);
        if (OVER.includes(recording.state)) {
          messages.cancel();
          return recording;
        }
      }
    } catch (error) {
      if (!AGAIN.includes(error.code)) throw error;
      await pause(500);
    }
  }
}

async function main([server, domain, name, directory = 'examples']) {
  if (!name) {
    console.error('usage: record.js SERVER DOMAIN STREAM [DIRECTORY]');
    return 64;
  }
  const api = services(server);
  const stream = { domain, app: 'live', stream: name };
  await prepare(api, domain, directory);
  const { resume_token: token } = await api.RecordingService.ListRecordings({ stream });
  console.log(`ready: publish ${name} on ${domain}`);
  const recording = await watch(api, stream, token);
  const { files } = await api.RecordingService.ListFiles({ parent: recording.name });
  for (const file of files) {
    console.log(`file ${file.name.split('/').pop()} ${file.state} ${file.size_bytes} ${file.uri}`);
  }
  return recording.state === 'SUCCEEDED' ? 0 : 1;
}

main(process.argv.slice(2)).then(
  (code) => process.exit(code),
  (error) => {
    console.error(`${status[error.code] || error.name}: ${error.details || error.message}`);
    process.exit(1);
  },
);
