-- Deletion: what is held, what was erased, and what retention did.

CREATE TABLE trace_holds (
    trace_id text PRIMARY KEY,
    reason   text NOT NULL CHECK (reason <> ''),
    held_by  text NOT NULL DEFAULT session_user,
    held_at  timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE trace_holds IS
    'Calls that are kept whatever their age: retention passes over them, erasure refuses.';
COMMENT ON COLUMN trace_holds.trace_id IS 'The call; it need not have begun.';
COMMENT ON COLUMN trace_holds.reason IS 'Why, in the words of who holds it.';
COMMENT ON COLUMN trace_holds.held_by IS 'Login that holds it.';
COMMENT ON COLUMN trace_holds.held_at IS 'Since when.';

CREATE TABLE deletions (
    deletion_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    hour        timestamptz NOT NULL,
    kind        text NOT NULL CHECK (kind IN ('audio', 'numbers')),
    reason      text NOT NULL CHECK (reason IN ('age', 'pressure')),
    begun_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at timestamptz,
    files       bigint NOT NULL DEFAULT 0,
    file_bytes  bigint NOT NULL DEFAULT 0
);
CREATE INDEX deletions_unfinished ON deletions (hour) WHERE finished_at IS NULL;
COMMENT ON TABLE deletions IS
    'Hours that retention deleted. A row is written first and finished last: what a kill left half '
    'done is finished by the next run.';
COMMENT ON COLUMN deletions.deletion_id IS 'Order of writing.';
COMMENT ON COLUMN deletions.hour IS 'Start of the hour.';
COMMENT ON COLUMN deletions.kind IS 'audio (segments and their rows) or numbers (all other rows).';
COMMENT ON COLUMN deletions.reason IS 'age, or pressure: the disk of the audio was too full.';
COMMENT ON COLUMN deletions.begun_at IS 'When it was decided.';
COMMENT ON COLUMN deletions.finished_at IS 'When all was gone; NULL while something may be left.';
COMMENT ON COLUMN deletions.files IS 'Files that the finishing run removed.';
COMMENT ON COLUMN deletions.file_bytes IS 'Bytes of these files.';

CREATE TABLE orphan_walks (
    walked_at timestamptz PRIMARY KEY,
    mended    jsonb NOT NULL
);
COMMENT ON TABLE orphan_walks IS
    'When all folders and rows of segments were last compared, by whichever process.';
COMMENT ON COLUMN orphan_walks.walked_at IS 'When the walk began.';
COMMENT ON COLUMN orphan_walks.mended IS 'What it found: files and rows by what was wrong with them.';

-- Erasure. The ledger has keyed hashes alone, so that who reads it learns of no call. The key is
-- here too, but only functions of the owner see it: a process that had to bring the key itself, and
-- lacked it, would bring erased calls back.

CREATE TABLE erasure_keys (
    key_id    uuid PRIMARY KEY,
    inner_pad bytea NOT NULL CHECK (length(inner_pad) = 64),
    outer_pad bytea NOT NULL CHECK (length(outer_pad) = 64),
    made_at   timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE erasure_keys IS
    'Secrets of the ledger: the first is of this archive, others came with ledgers of other ones.';
COMMENT ON COLUMN erasure_keys.key_id IS 'Name of the key.';
COMMENT ON COLUMN erasure_keys.inner_pad IS 'HMAC-SHA256: the key, filled up to 64 bytes, xor 0x36.';
COMMENT ON COLUMN erasure_keys.outer_pad IS 'HMAC-SHA256: the key, filled up to 64 bytes, xor 0x5c.';
COMMENT ON COLUMN erasure_keys.made_at IS 'When it came here; the oldest is used for new hashes.';

DO $$
DECLARE
    secret bytea := sha256(convert_to(gen_random_uuid()::text || gen_random_uuid()::text, 'UTF8'));
    filled bytea := secret || decode(repeat('00', 32), 'hex');
    inside bytea := filled;
    beyond bytea := filled;
BEGIN
    FOR i IN 0..63 LOOP
        inside := set_byte(inside, i, get_byte(filled, i) # 54);
        beyond := set_byte(beyond, i, get_byte(filled, i) # 92);
    END LOOP;
    INSERT INTO erasure_keys VALUES (gen_random_uuid(), inside, beyond);
END
$$;

CREATE TABLE erasures (
    erasure_id   uuid PRIMARY KEY,
    reason       text NOT NULL CHECK (reason <> ''),
    requested_by text NOT NULL DEFAULT session_user,
    begun_at     timestamptz NOT NULL DEFAULT now(),
    finished_at  timestamptz,
    counts       jsonb NOT NULL DEFAULT '{}'
);
COMMENT ON TABLE erasures IS 'Every erasure: why, by whom, when, and how much went. It names no call.';
COMMENT ON COLUMN erasures.erasure_id IS 'Stands on the receipt.';
COMMENT ON COLUMN erasures.reason IS 'Why, in the words of who asked for it.';
COMMENT ON COLUMN erasures.requested_by IS 'Login that asked for it.';
COMMENT ON COLUMN erasures.begun_at IS 'From then on nothing of these calls comes in.';
COMMENT ON COLUMN erasures.finished_at IS 'When all was gone; NULL: the next retention goes on.';
COMMENT ON COLUMN erasures.counts IS 'What went: rows by table, files, bytes, spooled records.';

CREATE TABLE erased_traces (
    trace_hash bytea NOT NULL CHECK (length(trace_hash) = 32),
    key_id     uuid NOT NULL REFERENCES erasure_keys,
    erasure_id uuid NOT NULL REFERENCES erasures,
    erased_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (trace_hash, key_id)
);
COMMENT ON TABLE erased_traces IS
    'The ledger: one keyed hash for each erased call. Nothing of such a call is taken in again.';
COMMENT ON COLUMN erased_traces.trace_hash IS 'HMAC-SHA256 of the trace_id.';
COMMENT ON COLUMN erased_traces.key_id IS 'Key of the hash.';
COMMENT ON COLUMN erased_traces.erasure_id IS 'The erasure that it belongs to.';
COMMENT ON COLUMN erased_traces.erased_at IS 'When it was put down.';

CREATE FUNCTION trace_hash(id text, key_of uuid) RETURNS bytea
LANGUAGE sql STABLE SET search_path = public, pg_temp
AS $$
    SELECT sha256(outer_pad || sha256(inner_pad || convert_to(id, 'UTF8')))
    FROM erasure_keys WHERE key_id = key_of
$$;
COMMENT ON FUNCTION trace_hash IS 'What the ledger has of a call; only for who may read the keys.';

CREATE FUNCTION erased_among(ids text[]) RETURNS SETOF text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
AS $$
BEGIN
    -- Until the end of the transaction no erasure begins: what is not erased now may be written.
    PERFORM pg_advisory_xact_lock_shared(hashtext('monitoring_v2.erasure'));
    RETURN QUERY
        SELECT DISTINCT id FROM unnest(ids) AS id CROSS JOIN erasure_keys k
        WHERE EXISTS (
            SELECT FROM erased_traces e
            WHERE e.trace_hash = trace_hash(id, k.key_id) AND e.key_id = k.key_id
        );
END
$$;
COMMENT ON FUNCTION erased_among IS
    'Which of these calls are erased. Until the end of the transaction no erasure begins.';
REVOKE ALL ON FUNCTION trace_hash, erased_among FROM PUBLIC;

CREATE FUNCTION begin_erasure(erasure uuid, ids text[], why text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
AS $$
DECLARE
    held text;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('monitoring_v2.holds'));
    SELECT string_agg(trace_id, ', ' ORDER BY trace_id) INTO held
        FROM trace_holds WHERE trace_id = ANY (ids);
    IF held IS NOT NULL THEN
        RAISE EXCEPTION 'held: %', held USING ERRCODE = 'object_in_use';
    END IF;
    -- Who writes rows has asked erased_among() first and holds this lock, shared, to the end.
    PERFORM pg_advisory_xact_lock(hashtext('monitoring_v2.erasure'));
    INSERT INTO erasures (erasure_id, reason) VALUES (erasure, why);
    INSERT INTO erased_traces (trace_hash, key_id, erasure_id)
        SELECT trace_hash(id, k.key_id), k.key_id, erasure FROM unnest(ids) AS id,
            (SELECT key_id FROM erasure_keys ORDER BY made_at, key_id LIMIT 1) AS k
        ON CONFLICT DO NOTHING;
END
$$;
COMMENT ON FUNCTION begin_erasure IS
    'Puts calls into the ledger, unless one is held. When it has returned and its transaction is '
    'committed, nothing of them comes in any more.';
REVOKE ALL ON FUNCTION begin_erasure FROM PUBLIC;

CREATE FUNCTION finish_erasure(erasure uuid, what jsonb) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp
AS $$
    UPDATE erasures SET finished_at = clock_timestamp(), counts = what
    WHERE erasure_id = erasure AND finished_at IS NULL
$$;
COMMENT ON FUNCTION finish_erasure IS 'Says that all was gone, and how much it was.';
REVOKE ALL ON FUNCTION finish_erasure FROM PUBLIC;

-- The access log stays append-only but for two things: the name of an erased call gives way to its
-- hash, and rows end with their age.

CREATE OR REPLACE FUNCTION audio_access_is_append_only() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        IF OLD.at < now() - interval '30 days' THEN
            RETURN OLD;
        END IF;
    ELSIF TG_OP = 'UPDATE' THEN
        IF NEW.trace_id = erased_name(OLD.trace_id)
           AND to_jsonb(NEW) - 'trace_id' = to_jsonb(OLD) - 'trace_id' THEN
            RETURN NEW;
        END IF;
    END IF;
    RAISE EXCEPTION 'audio_access is append-only' USING ERRCODE = 'insufficient_privilege';
END
$$;
COMMENT ON FUNCTION audio_access_is_append_only IS
    'Refuses to change the access log, but for erased calls and rows older than thirty days.';
DROP TRIGGER append_only ON audio_access;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON audio_access
    FOR EACH ROW EXECUTE FUNCTION audio_access_is_append_only();
CREATE TRIGGER append_only_as_a_whole BEFORE TRUNCATE ON audio_access
    FOR EACH STATEMENT EXECUTE FUNCTION audio_access_is_append_only();
COMMENT ON TABLE audio_access IS
    'Every answer with audio, written before its first byte left. It outlives the audio: rows are '
    'never changed, but that an erased call loses its name, and go after thirty days or more.';

CREATE FUNCTION erased_name(id text) RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp
AS $$
    SELECT 'erased-' || left(encode(trace_hash, 'hex'), 16) FROM erased_traces e
    WHERE e.trace_hash = trace_hash(id, e.key_id) LIMIT 1
$$;
COMMENT ON FUNCTION erased_name IS 'What the access log calls an erased call; NULL for others.';
REVOKE ALL ON FUNCTION erased_name FROM PUBLIC;

CREATE FUNCTION rename_accesses(ids text[]) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
AS $$
DECLARE
    renamed bigint;
BEGIN
    UPDATE audio_access SET trace_id = erased_name(trace_id)
        WHERE trace_id = ANY (ids) AND erased_name(trace_id) IS NOT NULL;
    GET DIAGNOSTICS renamed = ROW_COUNT;
    RETURN renamed;
END
$$;
COMMENT ON FUNCTION rename_accesses IS 'Takes the names of erased calls out of the access log.';
REVOKE ALL ON FUNCTION rename_accesses FROM PUBLIC;

CREATE FUNCTION forget_accesses(before timestamptz) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
AS $$
DECLARE
    gone bigint;
BEGIN
    DELETE FROM audio_access WHERE at < least(before, now() - interval '30 days');
    GET DIAGNOSTICS gone = ROW_COUNT;
    RETURN gone;
END
$$;
COMMENT ON FUNCTION forget_accesses IS
    'Deletes rows of the access log that are older than this moment, and than thirty days.';
REVOKE ALL ON FUNCTION forget_accesses FROM PUBLIC;
