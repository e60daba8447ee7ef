CREATE FUNCTION embstore.pin(ref text, by text, note text DEFAULT NULL)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
-- Keep a version from being dropped: SELECT embstore.pin('items@7', 'ctr-model-41')
DECLARE
    of embstore.versions;
BEGIN
    IF coalesce($2, '') = '' THEN
        RAISE EXCEPTION USING ERRCODE = 'EM009', MESSAGE = 'a pin needs the name of who needs the version, such as ctr-model-41';
    END IF;
    -- A drop that is under way ends first; then there is nothing left to pin.
    PERFORM FROM embstore.tables t WHERE t.name = split_part($1, '@', 1) FOR UPDATE;
    of := embstore.resolve($1);
    INSERT INTO embstore.pins (table_name, version, pinned_by, note, pinned_at, pinned_user)
    VALUES (of.table_name, of.version, $2, $3, clock_timestamp(), session_user)
    ON CONFLICT (table_name, version, pinned_by) DO UPDATE SET note = coalesce(excluded.note, pins.note);
END
$$
