CREATE TABLE leases (
    node {text} NOT NULL,
    incarnation BIGINT NOT NULL,
    address {text} NOT NULL,
    pid BIGINT NOT NULL,
    beat BIGINT NOT NULL,
    status {text} NOT NULL,
    ended BIGINT NOT NULL,
    report {text} NOT NULL,
    PRIMARY KEY (node, incarnation)
);

CREATE TABLE sessions (
    session_key {text} NOT NULL PRIMARY KEY,
    owner_node {text} NOT NULL,
    owner_incarnation BIGINT NOT NULL,
    epoch BIGINT NOT NULL,
    estate {bytes},
    in_flight {bytes}
);
CREATE INDEX sessions_by_owner ON sessions (owner_node, owner_incarnation, session_key);
CREATE INDEX sessions_with_estate ON sessions (owner_node, owner_incarnation, session_key) WHERE estate IS NOT NULL;

CREATE TABLE peers (
    session_key {text} NOT NULL,
    clock BIGINT NOT NULL,
    host BIGINT NOT NULL,
    user_json {text} NOT NULL,
    handshake {bytes} NOT NULL,
    PRIMARY KEY (session_key, clock)
);

CREATE TABLE counters (
    name {text} NOT NULL PRIMARY KEY,
    value BIGINT NOT NULL
);
INSERT INTO counters (name, value) VALUES ('epoch', 0), ('seats', 0);

CREATE TABLE seats (
    node {text} NOT NULL,
    incarnation BIGINT NOT NULL,
    held BIGINT NOT NULL,
    wanted BIGINT NOT NULL,
    PRIMARY KEY (node, incarnation)
);

CREATE TABLE journal_writers (
    writer BIGINT NOT NULL PRIMARY KEY,
    batch BIGINT NOT NULL,
    at_ms BIGINT NOT NULL
);

CREATE TABLE audit (
    id {serial},
    at_ms BIGINT NOT NULL,
    event {text} NOT NULL,
    session_key {text} NOT NULL,
    node {text} NOT NULL,
    peer {text},
    user_id {text},
    user_name {text},
    user_email {text},
    user_provider {text},
    client {text},
    reason {text}
);
CREATE INDEX audit_by_time ON audit (at_ms, id);
CREATE INDEX audit_by_session ON audit (session_key, at_ms, id);

CREATE TABLE usage_samples (
    slot_ms BIGINT NOT NULL,
    node {text} NOT NULL,
    day {text} NOT NULL,
    users_online BIGINT NOT NULL,
    users_in_sessions BIGINT NOT NULL,
    sessions BIGINT NOT NULL,
    connections BIGINT NOT NULL,
    PRIMARY KEY (slot_ms, node)
);
CREATE INDEX usage_samples_by_day ON usage_samples (day);

CREATE TABLE usage_days (
    day {text} NOT NULL PRIMARY KEY,
    sessions BIGINT NOT NULL,
    joins BIGINT NOT NULL,
    ended BIGINT NOT NULL,
    sessions_most BIGINT NOT NULL,
    users_online_most BIGINT NOT NULL,
    users_in_sessions_most BIGINT NOT NULL
);

CREATE TABLE usage_users (
    day {text} NOT NULL,
    user_identity {text} NOT NULL,
    PRIMARY KEY (day, user_identity)
);

CREATE TABLE usage_clients (
    day {text} NOT NULL,
    role {text} NOT NULL,
    client {text} NOT NULL,
    uses BIGINT NOT NULL,
    PRIMARY KEY (day, role, client)
);

CREATE TABLE downloads (
    day {text} NOT NULL,
    ide {text} NOT NULL,
    version {text} NOT NULL,
    artifact {text} NOT NULL,
    downloads BIGINT NOT NULL,
    PRIMARY KEY (day, ide, version, artifact)
);
