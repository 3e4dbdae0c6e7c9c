"""The life of a book: a closing session, tags that are changed beside an import, and both recorded as changes.

A portfolio is open while no closing session is stated, so `active` follows `closing_date` whichever of both is
written: closed by hand (`SET active = false`), its closing session is that of its newest snapshot.
"""

from __future__ import annotations

from alembic import op

revision = "0017"
down_revision = "0016"

COLUMNS = """
ALTER TABLE sigmasight.portfolios ADD COLUMN closing_date date;
UPDATE sigmasight.portfolios p SET closing_date = coalesce(
    (SELECT max(s.session_date) FROM sigmasight.portfolio_snapshots s WHERE s.portfolio_id = p.portfolio_id),
    p.inception_date)
WHERE NOT active;
ALTER TABLE sigmasight.portfolios ALTER COLUMN active SET DEFAULT true;

ALTER TABLE sigmasight.input_changes
    DROP CONSTRAINT input_changes_kind_check,
    ADD CONSTRAINT input_changes_kind_check CHECK (kind IN ('added', 'revised', 'removed', 'described'));
"""

CLOSING = """
CREATE FUNCTION sigmasight.keep_portfolio_closing() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
DECLARE
    newest date := (SELECT max(t.session_date) FROM sigmasight.trading_sessions t);
BEGIN
    IF NEW.closing_date IS NULL AND NOT NEW.active AND (TG_OP = 'INSERT' OR OLD.active) THEN
        NEW.closing_date := coalesce(
            (SELECT max(s.session_date) FROM sigmasight.portfolio_snapshots s
             WHERE s.portfolio_id = NEW.portfolio_id),
            NEW.inception_date);
    ELSIF TG_OP = 'UPDATE' AND NEW.active AND NOT OLD.active AND NEW.closing_date IS NOT DISTINCT FROM OLD.closing_date
    THEN
        NEW.closing_date := NULL;
    END IF;
    IF NEW.closing_date < NEW.inception_date OR NEW.closing_date > newest THEN
        RAISE EXCEPTION 'closing_date % of portfolio % is no session from its inception, %, to %',
            NEW.closing_date, NEW.code, NEW.inception_date, newest USING ERRCODE = 'check_violation';
    END IF;
    NEW.active := NEW.closing_date IS NULL;
    RETURN NEW;
END
$$;
CREATE TRIGGER keep_closing BEFORE INSERT OR UPDATE OF active, closing_date ON sigmasight.portfolios
    FOR EACH ROW EXECUTE FUNCTION sigmasight.keep_portfolio_closing();
"""

RECORDED = """
CREATE FUNCTION sigmasight.record_change(
    of_table text, first_session date, owner bigint, of_symbol text, what text, words text
) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = '' AS $$
    INSERT INTO sigmasight.input_changes
        (table_name, session_date, portfolio_id, symbol, kind, detail, by_hand, changed_at)
    VALUES (of_table, first_session, owner, of_symbol, what, words,
            current_setting('sigmasight.writer', true) IS DISTINCT FROM 'pipeline', clock_timestamp())
$$;

-- nothing computed depends on what a book is called; on its closing session everything after it does
CREATE FUNCTION sigmasight.record_portfolio_change() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
DECLARE
    before jsonb := to_jsonb(OLD);
    after jsonb := to_jsonb(NEW);
    called text[] := ARRAY(SELECT k FROM unnest('{code,description,name}'::text[]) AS keys(k)
                           WHERE before -> k IS DISTINCT FROM after -> k);
BEGIN
    IF NOT EXISTS (SELECT FROM sigmasight.portfolios p WHERE p.portfolio_id = NEW.portfolio_id) THEN
        RETURN NULL;  -- gone by now
    END IF;
    IF OLD.closing_date IS DISTINCT FROM NEW.closing_date THEN
        PERFORM sigmasight.record_change('portfolios',
            least(coalesce(OLD.closing_date, 'infinity'), coalesce(NEW.closing_date, 'infinity')) + 1,
            NEW.portfolio_id, NULL, 'revised', sigmasight.told(before, after, '{closing_date}'));
    END IF;
    IF called <> '{}' THEN
        PERFORM sigmasight.record_change('portfolios', (clock_timestamp() AT TIME ZONE 'UTC')::date,
            NEW.portfolio_id, NULL, 'described', sigmasight.told(before, after, called));
    END IF;
    RETURN NULL;
END
$$;

-- groups of exposures and labels of clusters are named by tags; kind and colour are for those who look at them
CREATE FUNCTION sigmasight.record_tag_change() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
DECLARE
    before jsonb := to_jsonb(OLD);
    after jsonb := to_jsonb(NEW);
    shown text[] := ARRAY(SELECT k FROM unnest('{colour,kind}'::text[]) AS keys(k)
                          WHERE before -> k IS DISTINCT FROM after -> k);
BEGIN
    IF OLD.name <> NEW.name THEN
        PERFORM sigmasight.record_change('tags', owned.first_session, owned.portfolio_id, NULL, 'revised',
            sigmasight.told(before, after, '{name}'))
        FROM (
            SELECT p.portfolio_id, min(greatest(q.entry_date, p.inception_date)) AS first_session
            FROM sigmasight.position_tags x JOIN sigmasight.positions q USING (position_id)
            JOIN sigmasight.portfolios p USING (portfolio_id) WHERE x.tag_id = NEW.tag_id GROUP BY 1
        ) owned
        WHERE EXISTS (SELECT FROM sigmasight.portfolio_snapshots s
                      WHERE s.portfolio_id = owned.portfolio_id AND s.session_date >= owned.first_session);
    END IF;
    IF shown <> '{}' THEN
        PERFORM sigmasight.record_change('tags', (clock_timestamp() AT TIME ZONE 'UTC')::date, NULL, NULL,
            'described', format('%s: %s', NEW.name, sigmasight.told(before, after, shown)));
    END IF;
    RETURN NULL;
END
$$;

CREATE FUNCTION sigmasight.record_position_tag_change() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
DECLARE
    of_position bigint := CASE WHEN TG_OP = 'INSERT' THEN NEW.position_id ELSE OLD.position_id END;
    tag text := (SELECT t.name FROM sigmasight.tags t
                 WHERE t.tag_id = CASE WHEN TG_OP = 'INSERT' THEN NEW.tag_id ELSE OLD.tag_id END);
BEGIN
    -- a position that is gone, or came or was changed in this transaction, is recorded itself, from its first session
    PERFORM sigmasight.record_change('position_tags', owned.first_session, owned.portfolio_id, owned.symbol,
        CASE TG_OP WHEN 'INSERT' THEN 'added' ELSE 'removed' END, format('tag %s', coalesce(tag, 'that is gone')))
    FROM (
        SELECT p.portfolio_id, q.symbol, greatest(q.entry_date, p.inception_date) AS first_session
        FROM sigmasight.positions q JOIN sigmasight.portfolios p USING (portfolio_id)
        WHERE q.position_id = of_position
    ) owned
    WHERE EXISTS (SELECT FROM sigmasight.portfolio_snapshots s
                  WHERE s.portfolio_id = owned.portfolio_id AND s.session_date >= owned.first_session)
    AND NOT EXISTS (SELECT FROM sigmasight.input_changes c
                    WHERE c.table_name = 'positions' AND c.portfolio_id = owned.portfolio_id
                    AND c.symbol = owned.symbol AND c.session_date <= owned.first_session
                    AND c.changed_at >= pg_catalog.now() AND c.xmin = pg_catalog.pg_current_xact_id()::xid);
    RETURN NULL;
END
$$;
"""

WATCHED = """
CREATE CONSTRAINT TRIGGER record_revised AFTER UPDATE ON sigmasight.portfolios
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (
        (OLD.code, OLD.name, OLD.description, OLD.closing_date)
        IS DISTINCT FROM (NEW.code, NEW.name, NEW.description, NEW.closing_date))
    EXECUTE FUNCTION sigmasight.record_portfolio_change();
CREATE CONSTRAINT TRIGGER record_revised AFTER UPDATE ON sigmasight.tags
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (OLD IS DISTINCT FROM NEW)
    EXECUTE FUNCTION sigmasight.record_tag_change();
CREATE CONSTRAINT TRIGGER record_added_or_removed AFTER INSERT OR DELETE ON sigmasight.position_tags
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    EXECUTE FUNCTION sigmasight.record_position_tag_change();
"""


def upgrade() -> None:
    """Add the column, what keeps it, and what records changes."""
    for statements in (COLUMNS, CLOSING, RECORDED, WATCHED):
        op.execute(statements)
