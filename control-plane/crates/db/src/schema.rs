//! The tables, as diesel sees them; the truth is in `migrations/`, and a test compares the two.
#![allow(missing_docs)]

diesel::table! {
    settings (name) {
        name -> Text,
        value -> Binary,
    }
}

diesel::table! {
    counters (name) {
        name -> Text,
        value -> BigInt,
    }
}

diesel::table! {
    storages (id) {
        id -> Text,
        uid -> Text,
        rev -> BigInt,
        is_default -> Bool,
        backup -> Nullable<Text>,
        credential_version -> BigInt,
        body -> Binary,
        state -> Integer,
        last_error -> Nullable<Binary>,
        last_success_time -> Nullable<BigInt>,
        create_time -> BigInt,
        update_time -> BigInt,
    }
}

diesel::table! {
    storage_credentials (storage, version) {
        storage -> Text,
        version -> BigInt,
        key_id -> Text,
        sealed -> Binary,
    }
}

diesel::table! {
    templates (id) {
        id -> Text,
        uid -> Text,
        rev -> BigInt,
        revision -> BigInt,
        storage -> Nullable<Text>,
        body -> Binary,
        create_time -> BigInt,
        update_time -> BigInt,
    }
}

diesel::table! {
    template_revisions (template, revision) {
        template -> Text,
        revision -> BigInt,
        body -> Binary,
        create_time -> BigInt,
    }
}

diesel::table! {
    domains (id) {
        id -> Text,
        uid -> Text,
        rev -> BigInt,
        body -> Binary,
        create_time -> BigInt,
        update_time -> BigInt,
    }
}

diesel::table! {
    domain_keys (domain, slot) {
        domain -> Text,
        slot -> Text,
        key_id -> Text,
        sealed -> Binary,
    }
}

diesel::table! {
    bindings (domain, app, template) {
        domain -> Text,
        app -> Text,
        template -> Text,
        uid -> Text,
        create_time -> BigInt,
    }
}

diesel::table! {
    rules (id) {
        id -> Text,
        uid -> Text,
        rev -> BigInt,
        domain -> Text,
        app -> Text,
        stream -> Text,
        template -> Nullable<Text>,
        body -> Binary,
        create_time -> BigInt,
        update_time -> BigInt,
    }
}

diesel::table! {
    recordings (id) {
        id -> Text,
        rev -> BigInt,
        domain -> Text,
        app -> Text,
        stream -> Text,
        state -> Integer,
        epoch -> BigInt,
        node -> Text,
        template -> Text,
        storage -> Text,
        task -> Nullable<Text>,
        session -> Text,
        start_time -> BigInt,
        update_time -> BigInt,
        body -> Binary,
        inherited -> Nullable<Binary>,
    }
}

diesel::table! {
    claims (claim_key) {
        claim_key -> Text,
        recording -> Text,
        epoch -> BigInt,
        node -> Text,
        create_time -> BigInt,
        reply -> Nullable<Binary>,
    }
}

diesel::table! {
    files (recording, format, file_index) {
        recording -> Text,
        format -> Integer,
        file_index -> BigInt,
        epoch -> BigInt,
        storage -> Text,
        object_key -> Nullable<Text>,
        state -> Integer,
        rev -> BigInt,
        update_time -> BigInt,
        body -> Binary,
        epoch_index -> Nullable<BigInt>,
    }
}

diesel::table! {
    streams (session) {
        session -> Text,
        rev -> BigInt,
        domain -> Text,
        app -> Text,
        stream -> Text,
        node -> Text,
        start_time -> BigInt,
        end_time -> Nullable<BigInt>,
        body -> Binary,
    }
}

diesel::table! {
    nodes (id) {
        id -> Text,
        rev -> BigInt,
        epoch -> BigInt,
        boot_id -> Text,
        lease_until -> BigInt,
        applied_version -> BigInt,
        state -> Integer,
        body -> Binary,
        create_time -> BigInt,
        update_time -> BigInt,
        drain -> Nullable<Binary>,
    }
}

diesel::table! {
    node_acks (node, directive) {
        node -> Text,
        directive -> Text,
        version -> BigInt,
        error -> Binary,
    }
}

diesel::table! {
    directives (name) {
        name -> Text,
        version -> BigInt,
        body -> Binary,
    }
}

diesel::table! {
    directive_log (version, name) {
        version -> BigInt,
        name -> Text,
        body -> Nullable<Binary>,
        time -> BigInt,
    }
}

diesel::table! {
    facts_seen (node) {
        node -> Text,
        node_epoch -> BigInt,
        sequence -> BigInt,
        update_time -> BigInt,
    }
}

diesel::table! {
    events (seq) {
        seq -> BigInt,
        id -> Text,
        #[sql_name = "type"]
        kind -> Text,
        subject -> Text,
        time -> BigInt,
        body -> Binary,
    }
}

diesel::table! {
    idempotency (request_id) {
        request_id -> Text,
        method -> Text,
        body_hash -> Binary,
        reply -> Binary,
        expire_time -> BigInt,
    }
}

diesel::table! {
    tokens (id) {
        id -> Text,
        hash -> Binary,
        body -> Binary,
        expire_time -> Nullable<BigInt>,
        last_used_time -> Nullable<BigInt>,
        create_time -> BigInt,
    }
}

diesel::table! {
    tasks (id) {
        id -> Text,
        uid -> Text,
        rev -> BigInt,
        domain -> Text,
        app -> Text,
        stream -> Text,
        template -> Text,
        state -> Integer,
        start_time -> BigInt,
        end_time -> BigInt,
        stop_time -> Nullable<BigInt>,
        due_time -> Nullable<BigInt>,
        body -> Binary,
        create_time -> BigInt,
        update_time -> BigInt,
    }
}

diesel::table! {
    usage_channels (recording) {
        recording -> Text,
        domain -> Text,
        template -> Text,
        start_time -> BigInt,
        end_time -> Nullable<BigInt>,
        body -> Binary,
    }
}

diesel::table! {
    usage_outputs (recording, format) {
        recording -> Text,
        format -> Integer,
        start_time -> BigInt,
    }
}

diesel::table! {
    usage_files (recording, format, epoch, epoch_index) {
        recording -> Text,
        format -> Integer,
        epoch -> BigInt,
        epoch_index -> BigInt,
        domain -> Text,
        available_time -> BigInt,
        size_bytes -> BigInt,
        start_time -> BigInt,
        end_time -> BigInt,
        duration_micros -> BigInt,
        transcoded -> Bool,
    }
}

diesel::table! {
    webhooks (id) {
        id -> Text,
        uid -> Text,
        rev -> BigInt,
        body -> Binary,
        state -> Integer,
        position -> BigInt,
        create_time -> BigInt,
        update_time -> BigInt,
    }
}

diesel::table! {
    webhook_secrets (webhook, version) {
        webhook -> Text,
        version -> BigInt,
        key_id -> Text,
        sealed -> Binary,
        expire_time -> Nullable<BigInt>,
    }
}

diesel::table! {
    deliveries (id) {
        id -> Text,
        webhook -> Text,
        event_seq -> BigInt,
        part -> Integer,
        event_id -> Text,
        event_type -> Text,
        subject -> Text,
        event_time -> BigInt,
        state -> Integer,
        attempt -> BigInt,
        http_status -> Integer,
        error -> Text,
        next_attempt_time -> Nullable<BigInt>,
        answer_time -> Nullable<BigInt>,
        create_time -> BigInt,
    }
}

diesel::table! {
    leases (name) {
        name -> Text,
        holder -> Text,
        until -> BigInt,
    }
}

diesel::table! {
    deletions (recording) {
        recording -> Text,
        objects -> Bool,
        attempts -> BigInt,
        next_time -> Nullable<BigInt>,
        last_error -> Nullable<Binary>,
        request_time -> BigInt,
    }
}

diesel::table! {
    deletion_objects (recording, storage, object_key) {
        recording -> Text,
        storage -> Text,
        object_key -> Text,
        kind -> Integer,
    }
}

diesel::table! {
    blocks (domain, app, stream) {
        domain -> Text,
        app -> Text,
        stream -> Text,
        until -> BigInt,
        reason -> Text,
    }
}

diesel::table! {
    node_progress (node) {
        node -> Text,
        body -> Binary,
        update_time -> BigInt,
    }
}

diesel::allow_tables_to_appear_in_same_query!(
    settings,
    counters,
    storages,
    storage_credentials,
    templates,
    template_revisions,
    domains,
    domain_keys,
    bindings,
    rules,
    recordings,
    claims,
    files,
    streams,
    tasks,
    nodes,
    node_acks,
    directives,
    directive_log,
    facts_seen,
    events,
    idempotency,
    webhooks,
    webhook_secrets,
    deliveries,
    leases,
    tokens,
    usage_channels,
    usage_outputs,
    usage_files,
    deletions,
    deletion_objects,
    blocks,
    node_progress,
);
