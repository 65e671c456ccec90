import sys,time,json
sys.path.insert(0,'/work/main/tests')
import act
def test_x(bake,tmp_path):
    p=bake()
    r=act.make_remote(p.path,tmp_path/'r.git')
    for ev,pl in (("push",act.push_payload(act.git(p.path,'rev-parse','HEAD'))),):
      for w in ("deliver","ci"):
        s=tmp_path/w; s.mkdir(); t=time.time()
        run=act.run_event(r,ev,pl,s,workflows=[w],venv=p.venv)
        print(w,time.time()-t,run.jobs,json.dumps(run.steps,indent=1)); print(run.log[-3000:])
