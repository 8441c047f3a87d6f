-- What pictures of a long time are drawn from: a call of an hour is shown without opening its files.

ALTER TABLE audio_segments_5s ADD COLUMN sketch bytea;
