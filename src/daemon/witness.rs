//! `hanfs witness`: the third voter as a process. It holds no data; one witness serves many groups.
//!
//! Each group has a thread of its own that owns its voter and its file, so a promise to one group never waits behind
//! another's disk. A state that changed is durable before the answer leaves; a file that fails ends the group's thread, and nothing
//! is answered for it any more.

use std::collections::HashMap;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail};
use parking_lot::Mutex;
use proto::peer::{WitnessReply, WitnessRequest, witness_server};
use replica::clock::monotonic_ns;
use replica::disk::RealDisk;
use replica::ids::ExportId;
use replica::witness::{WitnessFile, WitnessStore, WitnessVoter};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tonic::{Request, Response, Status};

use super::data_dir::DataDir;
use super::service::export_id;
use crate::config::Config;
use crate::tls::{Credentials, Principal, caller, incoming};

/// Groups that one witness serves, at most: each has a thread and a file.
const GROUPS_MAX: usize = 1024;

struct Job {
    request: WitnessRequest,
    answer: oneshot::Sender<WitnessReply>,
}

struct Witness {
    cluster: [u8; 16],
    promise_ns: u64,
    store: WitnessStore,
    groups: Mutex<HashMap<ExportId, crossbeam_channel::Sender<Job>>>,
}

/// Runs until a signal asks for the end.
pub fn witness(config: Config) -> anyhow::Result<ExitCode> {
    let Some(me) = config.witness.clone() else {
        bail!("{} has no [witness] section: there is nothing to run here", config.path.display());
    };
    super::priority::raise();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async move {
        let credentials = Credentials::load(&config.tls_files(&Principal::Witness))?;
        let data = DataDir::open(&me.data, &config.cluster.to_string(), "witness")?;
        let identity = getrandom::u64().map_err(|e| anyhow::anyhow!("draw a random number: {e}"))?.max(1);
        let store = WitnessStore::open(Arc::new(RealDisk::new(data.witness())), identity)?;
        let witness = Witness {
            cluster: *config.cluster.as_bytes(),
            promise_ns: config.timing.promise_ms * 1_000_000,
            store,
            groups: Mutex::default(),
        };
        // Those that it knows make no promise before their first: start them now, not at their first call.
        for group in witness.store.groups()? {
            witness.group(group).map_err(|s| anyhow::anyhow!("{}", s.message()))?;
        }
        let listener =
            TcpListener::bind(me.address).await.with_context(|| format!("listen on {}", me.address))?;
        tracing::info!(address = %me.address, identity = witness.store.identity(), "witness ready");
        credentials
            .server()?
            .add_service(witness_server::WitnessServer::new(witness))
            .serve_with_incoming_shutdown(incoming(listener), stop_signal())
            .await?;
        Ok(ExitCode::SUCCESS)
    })
}

async fn stop_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}

impl Witness {
    fn group(&self, id: ExportId) -> Result<crossbeam_channel::Sender<Job>, Status> {
        let mut groups = self.groups.lock();
        if let Some(jobs) = groups.get(&id) {
            return Ok(jobs.clone());
        }
        if groups.len() >= GROUPS_MAX {
            return Err(Status::resource_exhausted(format!(
                "this witness serves {GROUPS_MAX} groups already"
            )));
        }
        let (file, state) = self.store.group(id).map_err(|e| {
            tracing::error!(group = %id, "{e}");
            Status::internal(e.to_string())
        })?;
        let voter = WitnessVoter::new(monotonic_ns(), self.store.identity(), self.promise_ns, state);
        // Jobs wait for one another's fdatasync only; a node has a few under way.
        let (jobs, queue) = crossbeam_channel::bounded(256);
        std::thread::Builder::new()
            .name(format!("group {id}"))
            .spawn(move || serve(id, voter, file, &queue))
            .map_err(|e| Status::resource_exhausted(format!("start a thread: {e}")))?;
        groups.insert(id, jobs.clone());
        Ok(jobs)
    }
}

fn serve(
    id: ExportId,
    mut voter: WitnessVoter,
    mut file: WitnessFile,
    queue: &crossbeam_channel::Receiver<Job>,
) {
    for job in queue {
        let (state, reply) = voter.step(monotonic_ns(), &job.request);
        if let Some(state) = state
            && let Err(error) = file.save(state)
        {
            tracing::error!(group = %id, "the witness stops for this group: {error}");
            return;
        }
        // A caller that is gone asks again.
        let _ = job.answer.send(reply);
    }
}

#[tonic::async_trait]
impl witness_server::Witness for Witness {
    async fn call(&self, request: Request<WitnessRequest>) -> Result<Response<WitnessReply>, Status> {
        if !matches!(caller(&request), Some(Principal::Node(_))) {
            return Err(Status::permission_denied("only nodes may ask the witness"));
        }
        let request = request.into_inner();
        if request.cluster[..] != self.cluster[..] {
            return Err(Status::failed_precondition(
                "another cluster: the `cluster` lines of the configurations differ",
            ));
        }
        if request.export.is_empty() && request.kind.is_none() {
            // A node asks whether anybody is there.
            let identity = self.store.identity();
            return Ok(Response::new(WitnessReply { identity, ..WitnessReply::default() }));
        }
        let id = export_id(&request.export).ok_or_else(|| Status::invalid_argument("no export id"))?;
        let (answer, reply) = oneshot::channel();
        let job = Job { request, answer };
        self.group(id)?.try_send(job).map_err(|_| Status::unavailable("the group's disk is busy or dead"))?;
        let reply = reply.await.map_err(|_| Status::unavailable("the group's disk is dead"))?;
        Ok(Response::new(reply))
    }
}
