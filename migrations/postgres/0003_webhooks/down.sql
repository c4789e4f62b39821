-- safe because: the release before knows nothing of these tables.
DROP TABLE leases;
DROP TABLE deliveries;
DROP TABLE webhook_secrets;
DROP TABLE webhooks;
