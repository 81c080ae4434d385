//! nginx as a web seed (BEP 19): every payload without a peer, and a certificate that nobody signed.

use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::payload::{EmptyFiles, Payload};
use super::process::{Process, free_port, poll, program};
use super::{DOWNLOAD_TIMEOUT, say};

/// How long nginx may take to listen.
const START_TIMEOUT: Duration = Duration::from_secs(10);

struct Nginx {
    dir: PathBuf,
    url: String,
    https: String,
    _process: Process,
}

/// nginx with every payload; `None`, after saying why, if the machine lacks it.
fn nginx(test: &str) -> Option<Nginx> {
    let (Some(nginx), Some(openssl), Some(_)) =
        (program("nginx"), program("openssl"), program("setpriv"))
    else {
        let reason = format!("nginx::{test} skipped: no nginx or openssl here; see `make peers`");
        assert!(std::env::var_os("PIECEMEAL_REQUIRE_PEERS").is_none(), "{reason}");
        say(&reason);
        return None;
    };
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("nginx-{test}"));
    let _ = fs::remove_dir_all(&dir);
    let root = dir.join("root");
    fs::create_dir_all(&root).expect("making a folder");
    for payload in Payload::all() {
        payload.write_data(&root);
    }
    let (key, certificate) = (dir.join("key"), dir.join("certificate"));
    // An authority of our own, and what it has signed.
    for line in [
        "-keyout ca.key -out ca -subj /CN=ca",
        "-keyout key -out certificate -subj /CN=us -addext subjectAltName=IP:127.0.0.1 \
         -addext basicConstraints=critical,CA:FALSE -CA ca -CAkey ca.key",
    ] {
        let made = Command::new(&openssl)
            .args("req -x509 -newkey rsa:2048 -nodes".split(' '))
            .args(line.split_whitespace())
            .current_dir(&dir)
            .output();
        assert!(made.is_ok_and(|made| made.status.success()), "openssl made no certificate");
    }
    let [http, https] = [free_port(), free_port()];
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let temporary = temporary.map(|kind| format!("{kind}_temp_path {}/{kind};", dir.display()));
    let config = format!(
        "daemon off; master_process off; pid {dir}/pid; error_log {dir}/error.log;\n\
         events {{}}\nhttp {{ access_log {dir}/access.log; {temporary}\n\
         server {{ listen 127.0.0.1:{http}; listen 127.0.0.1:{https} ssl; root {dir}/root;\n\
         ssl_certificate {certificate}; ssl_certificate_key {key}; }} }}\n",
        dir = dir.display(),
        temporary = temporary.join(" "),
        certificate = certificate.display(),
        key = key.display(),
    );
    fs::write(dir.join("nginx.conf"), config).expect("writing a file");
    let mut command = Command::new(nginx);
    command.arg("-p").arg(&dir).arg("-c").arg(dir.join("nginx.conf"));
    let process = Process::start("nginx", &command, dir.join("log"));
    let up = || TcpStream::connect((Ipv4Addr::LOCALHOST, http)).ok();
    assert!(poll(START_TIMEOUT, up).is_some(), "nginx does not listen\n{}", process.log_tail());
    let url = |scheme: &str, port: u16| format!("{scheme}://127.0.0.1:{port}/");
    Some(Nginx { url: url("http", http), https: url("https", https), dir, _process: process })
}

/// A download with nobody but the server.
fn get(
    nginx: &Nginx,
    payload: &Payload,
    url: &str,
    more: &[&str],
    authority: Option<&Path>,
) -> (Process, PathBuf) {
    let work = nginx.dir.join(payload.name);
    let out = work.join("out");
    fs::create_dir_all(&out).expect("making a folder");
    let mut command = Command::new(env!("CARGO_BIN_EXE_piecemeal"));
    command.envs(authority.map(|path| ("SSL_CERT_FILE", path)));
    command.arg("get").arg("--dir").arg(&out).args(["--listen", "127.0.0.1", "--web-seed", url]);
    command.args(["--port", &free_port().to_string(), "--no-tracker"]).args(more);
    command.arg(payload.write_torrent(&work, &[]));
    (Process::start("piecemeal", &command, work.join("log")), out)
}

#[test]
fn serves_every_payload_alone() {
    let Some(nginx) = nginx("serves_every_payload_alone") else { return };
    for payload in Payload::all() {
        let name = payload.name;
        let (mut process, out) = get(&nginx, payload, &nginx.url, &["--stop-timeout", "30"], None);
        let Some(status) = process.wait(DOWNLOAD_TIMEOUT) else {
            panic!("{name}: still at it\n{}", process.log_tail());
        };
        assert!(status.success(), "{name}: {status}\n{}", process.log_tail());
        assert_eq!(payload.difference(&out, EmptyFiles::MustBe), None, "{name}");
        assert_eq!(payload.stranger(&out), None, "{name}: a file that is not the torrent's");
    }
    let _ = fs::remove_dir_all(&nginx.dir);
}

#[test]
fn is_believed_if_somebody_whom_we_know_has_signed_its_certificate() {
    let Some(nginx) = nginx("certificate") else { return };
    let payload = &Payload::all()[0];
    let (mut process, _) = get(&nginx, payload, &nginx.https, &["--stop-timeout", "2"], None);
    let status = process.wait(DOWNLOAD_TIMEOUT).expect("an end");
    let log = process.log_tail();
    assert_eq!(status.code(), Some(3), "{log}");
    let why = if cfg!(feature = "tls") { "has signed its certificate" } else { "no TLS" };
    assert!(log.contains(why), "{log}");
    let authority = nginx.dir.join("ca");
    let (mut process, _) = get(&nginx, payload, &nginx.https, &[], Some(&authority));
    if cfg!(feature = "tls") {
        let status = process.wait(DOWNLOAD_TIMEOUT).expect("an end");
        assert!(status.success(), "{}", process.log_tail());
    }
    let _ = fs::remove_dir_all(&nginx.dir);
}
