package machine
import ("testing";"time";"net";"net/http";"context";"openclaw-gateway/test/load")
func TestScratchLoad(t *testing.T){
	m:=Boot(t,Options{})
	var l net.Listener
	if err:=m.InNet(func()(err error){ l,err=net.Listen("tcp","127.0.0.1:0"); return}); err!=nil {t.Fatal(err)}
	go http.Serve(l,http.HandlerFunc(func(w http.ResponseWriter,r *http.Request){}))
	ld:=load.Start(context.Background(),load.Options{URL:"http://"+l.Addr().String(),Dial:m.DialContext,Loops:16,Pause:time.Millisecond})
	ld.WaitOK(context.Background(),5000)
	t.Log(ld.Stop())
	r,err:=m.HTTP().Get("http://"+l.Addr().String()); t.Log(r.StatusCode,err)
}
func TestScratchFail(t *testing.T){
	m:=Boot(t,Options{Prepare:func(m *Machine){m.WriteFile(t,"/etc/systemd/system/default.target","[Unit]\nRequires=nix.service\nAfter=basic.target x.service\nWants=x.service\n",0o644); m.WriteFile(t,"/etc/systemd/system/x.service","[Service]\nType=oneshot\nExecStart=/bin/false",0o644)}})
	t.Log(m.Run(t,"systemctl","list-jobs"))
}
func TestScratchFail2(t *testing.T){
	m:=Boot(t,Options{Prepare:func(m *Machine){m.Run(t,"mv","/usr/lib/systemd/systemd","/usr/lib/systemd/xx")}})
	_=m
}
func TestScratchOff(t *testing.T){
	m:=Boot(t,Options{})
	t.Log(m.Output("systemctl","poweroff")); time.Sleep(5*time.Second); t.Log(m.console.String());for _,p:=range m.Processes(t){t.Logf("%+v",p)}
	_,err:=m.watch(context.Background(),"x.service",Active); t.Log(err)
}
func TestScratchWait(t *testing.T){
	m:=Boot(t,Options{Binds:map[string]string{"/usr/x":"/etc/hosts","/dev/hosts":"/etc"}})
	m.WaitUnit(t,"x.service",time.Second/2,Active)
}
