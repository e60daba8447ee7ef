DROP TABLE embstore.appends;

DROP TABLE embstore.alignments;

DROP TABLE embstore.pins;

DROP TABLE embstore.gates;

ALTER TABLE embstore.alias_history
    DROP COLUMN release,
    ALTER COLUMN version SET NOT NULL;

DROP TABLE embstore.releases;

DROP TYPE embstore.released;

ALTER TABLE embstore.versions
    DROP COLUMN space,
    DROP COLUMN appended
