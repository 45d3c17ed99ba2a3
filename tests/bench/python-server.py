"""A peer of the bench: python-socketio on aiohttp or uvicorn, with what node-server.mjs stores, and as durably.

    PORT=3000 DATA_DIR=DIR JWT_SECRET=SECRET python python-server.py aiohttp|uvicorn

Whatever waits shares one transaction of SQLite (write-ahead log, synchronous=FULL), and nobody is answered or told before it.
"""

import asyncio
import json
import os
import resource
import sqlite3
import sys
import time

import jwt
import socketio
import uvloop

PORT, DATA_DIR, SECRET = int(os.environ["PORT"]), os.environ["DATA_DIR"], os.environ["JWT_SECRET"]
os.makedirs(DATA_DIR, exist_ok=True)
_, most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))

db = sqlite3.connect(os.path.join(DATA_DIR, "academy.db"), isolation_level=None, check_same_thread=False)
db.executescript(
    """
    pragma journal_mode = WAL;
    pragma synchronous = FULL;
    create table if not exists messages (
      id integer primary key, room text, seq integer, sender text, client_id text, content text, type text, at integer
    );
    create index if not exists messages_by_room on messages (room, id);
    create unique index if not exists messages_by_client_id on messages (sender, client_id) where client_id is not null;
    create table if not exists progress (user text, lesson text, stored text, primary key (user, lesson));
    create table if not exists syncs (user text, sync_id text, answer text, primary key (user, sync_id));
    """
)
next_id = (db.execute("select max(id) from messages").fetchone()[0] or 0) + 1
seqs = dict(db.execute("select room, max(seq) from messages group by room").fetchall())

is_aiohttp = sys.argv[1] == "aiohttp"
sio = socketio.AsyncServer(async_mode="aiohttp" if is_aiohttp else "asgi", ping_interval=25, ping_timeout=60)
users = {}
waiting = []


def now():
    return int(time.time() * 1000)


def write_all():
    """Everything that waits, as one transaction."""
    batch = waiting.copy()
    waiting.clear()
    try:
        db.execute("begin immediate")
        answers = [write() for write, _ in batch]
        db.execute("commit")
    except Exception as error:  # Whoever waits is told.
        if db.in_transaction:
            db.execute("rollback")
        for _, done in batch:
            done.set_exception(error)
        return
    for (_, done), answer in zip(batch, answers):
        done.set_result(answer)


def commit(write):
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    waiting.append((write, done))
    if len(waiting) == 1:
        loop.call_soon(write_all)
    return done


@sio.event
async def connect(sid, environ, auth):
    try:
        claims = jwt.decode(auth["token"], SECRET, algorithms=["HS256"])
    except jwt.PyJWTError as error:
        raise socketio.exceptions.ConnectionRefusedError(str(error)) from error
    user = {"id": claims["userId"], "name": claims.get("name"), "role": claims.get("role", "learner")}
    users[sid] = user
    rooms = [user["role"], f"user:{user['id']}", "all"]
    for room in rooms:
        await sio.enter_room(sid, room)
    # The connection is accepted when this function is done: what is said before is not heard.
    welcome = {"userId": user["id"], "name": user["name"], "role": user["role"], "rooms": rooms, "serverTime": now()}
    asyncio.get_running_loop().call_soon(lambda: sio.start_background_task(sio.emit, "authenticated", welcome, to=sid))


@sio.event
async def disconnect(sid, reason):
    users.pop(sid, None)


@sio.on("chat:join")
async def join(sid, payload):
    room = str(payload["roomId"])
    await sio.enter_room(sid, f"chat:{room}")
    limit = int(payload.get("limit", 50))
    rows = db.execute("select id, seq, content, type, at from messages where room = ? order by id desc limit ?", (room, limit)).fetchall()
    page = []
    for message_id, seq, stored, kind, at in reversed(rows):
        sender, content = json.loads(stored)
        page.append({"id": message_id, "seq": seq, "roomId": room, "senderId": sender, "content": content, "type": kind, "timestamp": at})
    return {"ok": True, "messages": page}


@sio.on("chat:message")
async def message(sid, payload):
    user, room, client_id = users[sid], str(payload["roomId"]), payload.get("clientId")
    if f"chat:{room}" not in sio.rooms(sid):
        return {"ok": False, "error": {"code": "not_joined", "message": "join the room first"}}
    content, kind = payload["content"], payload.get("type", "text")

    def write():
        global next_id
        if client_id is not None:
            row = db.execute("select id, seq, at from messages where sender = ? and client_id = ?", (user["id"], client_id)).fetchone()
            if row:
                return (*row, True)
        message_id, seq, at = next_id, seqs.get(room, 0) + 1, now()
        stored = json.dumps([user["id"], content])
        db.execute("insert into messages values (?, ?, ?, ?, ?, ?, ?, ?)", (message_id, room, seq, user["id"], client_id, stored, kind, at))
        next_id += 1
        seqs[room] = seq
        return (message_id, seq, at, False)

    message_id, seq, at, is_duplicate = await commit(write)
    if is_duplicate:
        return {"ok": True, "id": message_id, "seq": seq, "timestamp": at, "duplicate": True}
    event = {
        "id": message_id, "seq": seq, "roomId": payload["roomId"], "senderId": user["id"], "senderName": user["name"],
        "content": content, "type": kind, "replyToId": None, "timestamp": at,
    }
    await sio.emit("chat:message", event, to=f"chat:{room}")
    return {"ok": True, "id": message_id, "seq": seq, "timestamp": at}


@sio.on("progress:sync")
async def sync(sid, payload):
    owner, lesson, sync_id = users[sid]["id"], str(payload["lessonId"]), payload.get("syncId")

    def write():
        if sync_id is not None:
            row = db.execute("select answer from syncs where user = ? and sync_id = ?", (owner, sync_id)).fetchone()
            if row:
                return {**json.loads(row[0]), "duplicate": True}
        row = db.execute("select stored from progress where user = ? and lesson = ?", (owner, lesson)).fetchone()
        before = json.loads(row[0]) if row else {"progress": 0, "timeSpent": 0, "syncVersion": 0}
        stored = {
            "lessonId": payload["lessonId"], "progress": max(before["progress"], payload["progress"]),
            "timeSpent": before["timeSpent"] + payload["timeSpent"], "syncVersion": before["syncVersion"] + 1, "updatedAt": now(),
        }
        db.execute("insert or replace into progress values (?, ?, ?)", (owner, lesson, json.dumps(stored)))
        if sync_id is not None:
            db.execute("insert into syncs values (?, ?, ?)", (owner, sync_id, json.dumps(stored)))
        return stored

    answer = await commit(write)
    if not answer.get("duplicate"):
        await sio.emit("progress:updated", answer, to=f"user:{owner}")
    return {"ok": True, **answer}


if is_aiohttp:
    from aiohttp import web

    app = web.Application()
    sio.attach(app, socketio_path="ws")
    web.run_app(app, host="127.0.0.1", port=PORT, loop=uvloop.new_event_loop(), print=None, backlog=4096)
else:
    import uvicorn

    uvicorn.run(socketio.ASGIApp(sio, socketio_path="ws"), host="127.0.0.1", port=PORT, loop="uvloop", log_level="warning", backlog=4096)
