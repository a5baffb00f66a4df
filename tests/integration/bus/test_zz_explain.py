import json, time
from datetime import timedelta
from orchestrator.store import ingest as ing, workers, positions
from orchestrator.store.ingest import *
from tests.integration.bus.conftest import *

async def test_explain(database):
    w=await workers.register(database,"w")
    await positions.begin(database,"c",{("t",p):0 for p in range(3)})
    def batch(n,start,pos):
        return Batch(cluster_id="c", advances=(Advance(topic="t",partition=0,expected=pos,next_offset=pos+n),),
          messages=tuple(NewTask(origin=Origin(topic="t",partition=0,offset=pos+i,key=b"k",value=b"v"*200),task_id=f"x{start+i}",description="d",context={"required_fields":["a"],"current_state":"accepted","collected_data":{},"event_data":{"x":1}}) for i in range(n)))
    pos=0
    for n in (1,1,1,500,500,500):
        t=time.perf_counter(); await ing.ingest(database,batch(n,pos,pos),worker=w,room=0,expected_for=timedelta(hours=1),max_claims=5); print(n,"ms",(time.perf_counter()-t)*1e3); pos+=n
    for n in (500,1):
        cap={}
        class Db:
            async def fetch(self, sql, *args):
                cap["rows"]=await database.fetch("EXPLAIN (ANALYZE, SUMMARY) "+sql,*args); return []
        await ing.ingest(Db(),batch(n,pos,pos),worker=w,room=0,expected_for=timedelta(hours=1),max_claims=5); pos+=n
        print("\n".join(r[0] for r in cap["rows"]))
