-- Whoever takes an estate up says why its session was handed off: 0 where nobody knows.
ALTER TABLE sessions ADD COLUMN given BIGINT NOT NULL DEFAULT 0;
