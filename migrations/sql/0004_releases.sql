ALTER TABLE embstore.versions
    ADD COLUMN space text CHECK (space <> ''),
    ADD COLUMN appended bigint NOT NULL DEFAULT 0;

COMMENT ON COLUMN embstore.versions.space IS 'Which training the vectors are of: those of one space may be compared with each other; NULL where nobody said';

COMMENT ON COLUMN embstore.versions.appended IS 'How many of the rows joined after the version became ready; embstore.appends lists them';

CREATE TABLE embstore.releases (
    release bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    action text NOT NULL CHECK (action IN ('promote', 'rollback')),
    refs text[] NOT NULL,
    undoes bigint REFERENCES embstore.releases (release),
    forced boolean NOT NULL DEFAULT false,
    gates jsonb NOT NULL DEFAULT '[]',
    message text,
    moved_at timestamptz NOT NULL,
    moved_by text NOT NULL
);

COMMENT ON TABLE embstore.releases IS 'Every change of what is live, of one table or of several in one step: refs is what was asked for (of a rollback: what came back), gates what was measured before. Rows are only ever added';

ALTER TABLE embstore.alias_history
    ALTER COLUMN version DROP NOT NULL,
    ADD COLUMN release bigint REFERENCES embstore.releases (release);

COMMENT ON COLUMN embstore.alias_history.version IS 'NULL where the rollback of a release left the table without a live version, as it was before';

CREATE INDEX alias_history_by_release ON embstore.alias_history (release);

INSERT INTO embstore.releases (release, action, refs, undoes, message, moved_at, moved_by)
OVERRIDING SYSTEM VALUE
SELECT h.move, h.action, ARRAY[format('%s@%s', h.table_name, h.version)], h.undoes, h.message, h.moved_at, h.moved_by
FROM embstore.alias_history h WHERE h.alias = 'live' ORDER BY h.move;

UPDATE embstore.alias_history SET release = move WHERE alias = 'live';

SELECT setval(pg_get_serial_sequence('embstore.releases', 'release'), max(release)) FROM embstore.releases HAVING max(release) IS NOT NULL;

CREATE TYPE embstore.released AS (table_name text, version integer, previous integer, release bigint);

COMMENT ON TYPE embstore.released IS 'As moved, with the number of the release; NULL where all of it was live already';

CREATE TABLE embstore.gates (
    table_name text NOT NULL REFERENCES embstore.tables (name),
    gate text NOT NULL,
    set_at timestamptz NOT NULL,
    set_by text NOT NULL,
    PRIMARY KEY (table_name, gate)
);

COMMENT ON TABLE embstore.gates IS 'What must hold of a version before it goes live';

CREATE TABLE embstore.pins (
    table_name text NOT NULL,
    version integer NOT NULL,
    pinned_by text NOT NULL CHECK (pinned_by <> ''),
    note text,
    pinned_at timestamptz NOT NULL,
    pinned_user text NOT NULL,
    PRIMARY KEY (table_name, version, pinned_by),
    FOREIGN KEY (table_name, version) REFERENCES embstore.versions (table_name, version)
);

COMMENT ON TABLE embstore.pins IS 'Who needs which version: a pinned one is not dropped';

CREATE TABLE embstore.alignments (
    table_name text NOT NULL,
    version integer NOT NULL,
    to_table text NOT NULL,
    to_version integer NOT NULL,
    ids bigint NOT NULL,
    residual double precision NOT NULL,
    rotation bytea NOT NULL,
    PRIMARY KEY (table_name, version),
    FOREIGN KEY (table_name, version) REFERENCES embstore.versions (table_name, version)
);

COMMENT ON TABLE embstore.alignments IS 'The rotation that a version was loaded through: dim x dim float64, little-endian, row by row, so that aligned = vector @ rotation; fitted on ids common ids, with the relative residual that is left';

CREATE TABLE embstore.appends (
    table_name text NOT NULL,
    version integer NOT NULL,
    append integer NOT NULL,
    rows bigint NOT NULL,
    origin text NOT NULL,
    checksum text NOT NULL,
    message text,
    appended_at timestamptz NOT NULL,
    appended_by text NOT NULL,
    PRIMARY KEY (table_name, version, append),
    FOREIGN KEY (table_name, version) REFERENCES embstore.versions (table_name, version)
);

COMMENT ON TABLE embstore.appends IS 'The rows that joined a ready version, an append a row: checksum is of the whole version after it; its rows have this appended_at'
