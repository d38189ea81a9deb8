BEGIN TRANSACTION;
CREATE TABLE chunks (
    run_id TEXT NOT NULL,
    start INTEGER NOT NULL,
    stop INTEGER NOT NULL,
    makespans BLOB NOT NULL,
    bounds BLOB NOT NULL,
    seconds REAL NOT NULL,
    UNIQUE (run_id, start)
);
CREATE TABLE manifest (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO "manifest" VALUES('created','"2026-11-21T15:06:29+00:00"');
INSERT INTO "manifest" VALUES('engine','1');
INSERT INTO "manifest" VALUES('files','{}');
INSERT INTO "manifest" VALUES('kdsim','"0.1.0"');
INSERT INTO "manifest" VALUES('numpy','"2.4.6"');
INSERT INTO "manifest" VALUES('python','"3.11.7"');
INSERT INTO "manifest" VALUES('request','"0f0476cb82e4fd0419a8b0027beaa18934f5edb3c7e4c51b3648aa638c371ff7"');
INSERT INTO "manifest" VALUES('scenario','"{\"name\":\"small\",\"description\":\"\",\"device\":{\"cores\":4,\"reference_cores\":4,\"compute\":{\"a1\":1.0,\"a2\":0.25},\"communication\":{\"b1\":0.3,\"b2\":0.1,\"b3\":2.0},\"curves\":null},\"workload\":{\"cycles\":4,\"comm\":1.0,\"forward\":1.0,\"backward\":0.5,\"profile\":null,\"profile_rate\":null},\"policies\":[\"random\",\"greedy\"],\"replications\":3,\"seed\":0,\"extensions\":{\"prefetch\":null,\"noise\":0.0,\"link_rate\":null,\"release\":0.0,\"reallocation_cost\":0.0},\"sweep\":{\"device.cores\":[2,4]},\"design\":{\"method\":\"grid\",\"samples\":null}}"');
INSERT INTO "manifest" VALUES('scenario_sha256','"0b41f28897b60ca20f7d2484aaec5f2796c3d024c92a979d0261b96ffccfe6a1"');
INSERT INTO "manifest" VALUES('seed','0');
INSERT INTO "manifest" VALUES('sources','{}');
CREATE TABLE runs (
    run_id TEXT PRIMARY KEY,
    cell TEXT NOT NULL,
    position INTEGER NOT NULL,
    point TEXT NOT NULL,
    policy TEXT NOT NULL,
    source TEXT NOT NULL,
    cycles INTEGER NOT NULL,
    replications INTEGER NOT NULL,
    noisy INTEGER NOT NULL,
    varies INTEGER NOT NULL,
    bound_kind TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('pending', 'done', 'failed')),
    error TEXT NOT NULL DEFAULT '',
    error_at INTEGER,
    n INTEGER NOT NULL DEFAULT 0,
    seconds REAL NOT NULL DEFAULT 0,
    makespans BLOB,
    bounds BLOB,
    UNIQUE (point, policy)
);
INSERT INTO "runs" VALUES('cb5e1af34965b757','302d4ec007e7f4562e12526e911bd8d2941772ab5cbca3a4bf0fbb178f3c004a',0,'{"device.cores": 2}','random','',4,3,0,1,'optimum','done','',NULL,3,1.39824949997091607656e-02,X'800189F9596A3140800189F9596A3140800189F9596A3140',X'810189F9596A3140');
INSERT INTO "runs" VALUES('82e82a65c8b307d3','8ace3bab7f3ef0fbcc93779e580e49345183dd9b78de1bcf181e049e07979b5a',1,'{"device.cores": 2}','greedy','',4,1,0,0,'optimum','done','',NULL,1,4.3609999966065515764e-04,X'800189F9596A3140',X'810189F9596A3140');
INSERT INTO "runs" VALUES('8e9724ca29213218','301044513b4c55635f966d6121b5f7a186e8fbf2963ef5d59da92d3361e5070f',2,'{"device.cores": 4}','random','',4,3,0,1,'optimum','done','',NULL,3,1.11118799986797966994e-03,X'1AC5169B7D85214019BF84CB928221402AFA1625F4862140',X'810189F9596A2140');
INSERT INTO "runs" VALUES('8b858742fea9b38c','4d671b4548ef17d8a6f58303ed0abdf6278a52eccc37ab9def6cde54ae8cdf9a',3,'{"device.cores": 4}','greedy','',4,1,0,0,'optimum','done','',NULL,1,2.54699999914009822532e-04,X'AE5A5256D57A2140',X'810189F9596A2140');
CREATE INDEX runs_in_order ON runs (position);
CREATE INDEX runs_by_status ON runs (status, position);
COMMIT;
PRAGMA application_id = 1801745261;
PRAGMA user_version = 1;
