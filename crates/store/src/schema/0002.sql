-- Sessions that change their owner bring the seats of their peers along, and a question that comes late changes nothing.
ALTER TABLE seats ADD COLUMN came BIGINT NOT NULL DEFAULT 0;
ALTER TABLE seats ADD COLUMN sat BIGINT NOT NULL DEFAULT 0;
ALTER TABLE seats ADD COLUMN went BIGINT NOT NULL DEFAULT 0;
ALTER TABLE seats ADD COLUMN exported BIGINT NOT NULL DEFAULT 0;
ALTER TABLE seats ADD COLUMN number BIGINT NOT NULL DEFAULT 0;
