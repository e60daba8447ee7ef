CREATE EXTENSION IF NOT EXISTS vector SCHEMA public;

CREATE SCHEMA emb;

COMMENT ON SCHEMA emb IS 'Embeddings: the view emb.<table> is the live version, the table emb.<table>_v<N> is version N';

COMMENT ON SCHEMA embstore IS 'embstore''s catalog and functions';

CREATE TABLE embstore.tables (
    name text PRIMARY KEY CHECK (name ~ '^[a-z][a-z0-9_]{0,47}$' AND name !~ '_v[0-9]+$'),
    id_type text CHECK (id_type IN ('bigint', 'text')),
    metric text NOT NULL CHECK (metric IN ('cosine', 'ip', 'l2')),
    precision text CHECK (precision IN ('float32', 'float16')),
    created_at timestamptz NOT NULL,
    created_by text NOT NULL
);

COMMENT ON TABLE embstore.tables IS 'Embedding tables. id_type and precision are fixed by the first load';

CREATE TABLE embstore.version_numbers (
    table_name text PRIMARY KEY,
    last integer NOT NULL
);

COMMENT ON TABLE embstore.version_numbers IS 'The last version number given out for each name; outlives failed loads and dropped tables, so that a number never means two things';

CREATE TABLE embstore.versions (
    table_name text NOT NULL REFERENCES embstore.tables (name),
    version integer NOT NULL CHECK (version > 0),
    status text NOT NULL CHECK (status IN ('loading', 'ready', 'retired')),
    dim integer NOT NULL CHECK (dim BETWEEN 1 AND 16000),
    id_type text NOT NULL CHECK (id_type IN ('bigint', 'text')),
    metric text NOT NULL CHECK (metric IN ('cosine', 'ip', 'l2')),
    precision text NOT NULL CHECK (precision IN ('float32', 'float16')),
    rows bigint,
    bytes bigint,
    index_kind text NOT NULL CHECK (index_kind IN ('hnsw', 'none')),
    attributes jsonb NOT NULL DEFAULT '[]',
    trainer text,
    params jsonb NOT NULL DEFAULT '{}',
    metrics jsonb NOT NULL DEFAULT '{}',
    source jsonb NOT NULL DEFAULT '{}',
    checksum text,
    created_at timestamptz NOT NULL,
    created_by text NOT NULL,
    ready_at timestamptz,
    retired_at timestamptz,
    PRIMARY KEY (table_name, version)
);

COMMENT ON TABLE embstore.versions IS 'Versions of each table with their provenance. Queries see status ready only';

CREATE TABLE embstore.aliases (
    table_name text NOT NULL REFERENCES embstore.tables (name),
    alias text NOT NULL CHECK (alias ~ '^[a-z][a-z0-9_]{0,47}$'),
    version integer NOT NULL,
    moved_at timestamptz NOT NULL,
    moved_by text NOT NULL,
    PRIMARY KEY (table_name, alias),
    FOREIGN KEY (table_name, version) REFERENCES embstore.versions (table_name, version)
);

COMMENT ON TABLE embstore.aliases IS 'Which version each alias names now; live is what the view emb.<table> shows';

CREATE TABLE embstore.alias_history (
    move bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    table_name text NOT NULL,
    alias text NOT NULL,
    version integer NOT NULL,
    previous integer,
    action text NOT NULL CHECK (action IN ('promote', 'rollback')),
    undoes bigint REFERENCES embstore.alias_history (move),
    moved_at timestamptz NOT NULL,
    moved_by text NOT NULL,
    message text
);

COMMENT ON TABLE embstore.alias_history IS 'Every move of every alias; rows are only ever added';

CREATE INDEX alias_history_by_alias ON embstore.alias_history (table_name, alias, move);

CREATE TYPE embstore.neighbor AS (id text, distance double precision, score double precision);

COMMENT ON TYPE embstore.neighbor IS 'A result of nearest and similar: distance as the operator gives it, smaller is nearer; score larger is nearer (cosine similarity, inner product, or minus the L2 distance)';

CREATE TYPE embstore.moved AS (table_name text, version integer, previous integer);

COMMENT ON TYPE embstore.moved IS 'What promote and rollback did: the version the alias names now, and the one it named before';
