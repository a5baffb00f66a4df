import asyncio, json, time
from datetime import timedelta, datetime, UTC
from orchestrator.bus.relay import Relay, Identity
from orchestrator.store import workers
from tests.fakes.bus import running_consumer, until, CountingEngine
from tests.integration.bus.conftest import *
from aiokafka import AIOKafkaProducer, AIOKafkaConsumer

async def count(database, sql):
    return (await database.fetch_one(sql))["n"]

async def test_measure(database, options, publisher):
    eng = CountingEngine(worker=await workers.register(database,"w"))
    N=20000
    p = AIOKafkaProducer(bootstrap_servers=options.bootstrap_servers, linger_ms=5)
    await p.start()
    t=time.time()
    fs=[]
    for i in range(N):
        fs.append(await p.send(options.topics.tasks, key=b"t%d"%i, value=json.dumps({"task_id":f"t{i}","task_description":"do the thing "*5,"required_fields":["a","b"],"event_data":{"x":1,"y":"z"*50}}).encode()))
    await asyncio.gather(*fs)
    print("produced", N/(time.time()-t))
    async with running_consumer(database, options, eng) as c:
        await until(lambda: c.state.is_ready); 
        t=time.time()
        async def done(): return await count(database,"select count(*) n from tasks")>=N
        import cProfile,pstats; pr=cProfile.Profile(); pr.enable()
        await until(done, seconds=60)
        print("ingested/s", N/(time.time()-t))
        from orchestrator.telemetry import metrics
        print([ (x.name,x.value) for m in metrics.INGEST_SECONDS.collect() for x in m.samples if x.name.endswith(("sum","count"))])
        pr.disable(); pstats.Stats(pr).sort_stats("tottime").print_stats(22)
        # latency
        lat=[]
        for i in range(100):
            got=len(eng.ingested)
            t0=time.perf_counter()
            f=await p.send(options.topics.tasks, key=b"q%d"%i, value=json.dumps({"task_id":f"q{i}","task_description":"x"}).encode())
            while len(eng.ingested)==got: await asyncio.sleep(0.0003)
            lat.append(time.perf_counter()-t0); await f
            await asyncio.sleep(0.01)
        lat.sort(); print("latency produce->T1 ms p50 %.2f p99 %.2f max %.2f"%(lat[50]*1e3,lat[98]*1e3,lat[-1]*1e3))
    relay=Relay(database, options, identity=Identity(worker=lambda: eng.worker, is_alive=lambda: True))
    rows=await count(database,"select count(*) n from outbox")
    t=time.time()
    task=asyncio.create_task(relay.run())
    async def empty(): return await count(database,"select count(*) n from outbox")==0
    await until(empty, seconds=60)
    print("relayed/s", rows/(time.time()-t), rows)
    lat=[]
    cons=AIOKafkaConsumer(options.topics.task_updates, bootstrap_servers=options.bootstrap_servers, auto_offset_reset="latest")
    await cons.start(); await cons.seek_to_end(); [await cons.position(x) for x in cons.assignment()]
    tk=(await database.fetch_one("select id from tasks limit 1"))["id"]
    for i in range(100):
        t0=time.perf_counter()
        await database.fetch("insert into outbox(task,seq) values ($1,1)", tk); relay.wake()
        await cons.getone()
        lat.append(time.perf_counter()-t0); await asyncio.sleep(0.005)
    lat.sort(); print("latency relay ms p50 %.2f p99 %.2f"%(lat[50]*1e3,lat[98]*1e3))
    await cons.stop()
    relay.stop(); await task; await p.stop()
