// Recorder's services from its .proto files, with promises for unary calls.
'use strict';

const fs = require('node:fs');
const path = require('node:path');
const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');

const PROTO = path.join(__dirname, '../../../proto');

/** Services by name: `services(address).TemplateService.CreateTemplate({...})`. */
function services(address) {
  const files = fs.readdirSync(path.join(PROTO, 'recorder/v1')).map((name) => `recorder/v1/${name}`);
  const definition = loader.loadSync(files, {
    includeDirs: [PROTO, path.join(__dirname, 'protos')],
    keepCase: true, // field names as in the contract
    longs: String, // 64-bit numbers do not fit into a JavaScript number
    enums: String,
    defaults: true,
    oneofs: true,
  });
  const packages = grpc.loadPackageDefinition(definition).recorder.v1;
  const ca = process.env.RECCTL_CA;
  const credentials = ca ? grpc.credentials.createSsl(fs.readFileSync(ca)) : grpc.credentials.createInsecure();
  const metadata = new grpc.Metadata();
  if (process.env.RECCTL_TOKEN) metadata.set('authorization', `Bearer ${process.env.RECCTL_TOKEN}`);
  const clients = {};
  for (const [name, Service] of Object.entries(packages)) {
    if (!Service.service) continue;
    const client = new Service(address, credentials);
    clients[name] = {};
    for (const [method, { responseStream }] of Object.entries(Service.service)) {
      clients[name][method] = responseStream
        ? (request) => client[method](request, metadata)
        : (request) => new Promise((resolve, reject) => {
          client[method](request, metadata, (error, reply) => (error ? reject(error) : resolve(reply)));
        });
    }
  }
  return clients;
}

module.exports = { services, status: grpc.status };
