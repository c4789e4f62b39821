//! The handle: pools, transactions on blocking threads, and a bell that rings after every commit.
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use diesel::r2d2::{NopErrorHandler, Pool, PooledConnection};
use tokio::sync::{Semaphore, watch};

use crate::connection::{Manager, Target};
use crate::{AnyConnection, Error, Kind, Result, dialect, migrations};

/// Opens a transaction.
type Begin = fn(&mut AnyConnection) -> Result<()>;

/// How the pool behaves; the default suits one control plane process.
#[derive(Debug, Clone)]
pub struct Options {
    /// Connections for reading (Postgres: for everything). SQLite in memory always has one for all.
    pub connections: u32,
    /// How long a call waits for a free connection before it fails as unavailable.
    pub acquire_timeout: Duration,
    /// How long a call waits for its transaction before it fails as unavailable: a database that has frozen, or whose
    /// network swallows everything, gives no error of its own. The transaction may still commit later.
    pub answer_timeout: Duration,
    /// Runs transactions where they are called instead of on blocking threads: for simulations, in which nothing may
    /// depend on how threads are scheduled.
    pub inline: bool,
}

impl Default for Options {
    fn default() -> Self {
        // More than a handful gain nothing: writers queue anyway, and every connection is a blocking thread.
        Self {
            connections: 8,
            acquire_timeout: Duration::from_secs(5),
            answer_timeout: Duration::from_secs(15),
            inline: false,
        }
    }
}

/// An answer later than this means that the database is not ready.
const PING_TIMEOUT: Duration = Duration::from_secs(3);

/// A database. Clones share it.
#[derive(Clone)]
pub struct Db {
    kind: Kind,
    acquire_timeout: Duration,
    answer_timeout: Duration,
    inline: bool,
    readers: Lane,
    writer: Lane,
    changed: Arc<watch::Sender<u64>>,
}

/// A pool with its queue in front: callers wait as futures, not as blocked threads.
#[derive(Clone)]
struct Lane {
    pool: Pool<Manager>,
    permits: Arc<Semaphore>,
}

impl Db {
    /// Opens (SQLite: creates) the database and migrates it. Takes `sqlite:///path`, `sqlite://:memory:` and
    /// `postgres://…`. Blocks; call it before serving or on a blocking thread.
    pub fn open(url: &str) -> Result<Self> {
        Self::open_with(url, &Options::default())
    }

    /// [`Db::open`] with other pool settings.
    pub fn open_with(url: &str, options: &Options) -> Result<Self> {
        let target = Target::parse(url)?;
        let shared = !matches!(target, Target::File(_));
        let connections = if matches!(target, Target::Memory) { 1 } else { options.connections.max(1) };
        let readers = Lane::new(&target, connections, !shared, options)?;
        let writer = if shared { readers.clone() } else { Lane::new(&target, 1, false, options)? };
        migrations::run(&mut *writer.connection()?)?;
        Ok(Self {
            kind: target.kind(),
            acquire_timeout: options.acquire_timeout,
            answer_timeout: options.answer_timeout,
            inline: options.inline,
            readers,
            writer,
            changed: Arc::new(watch::Sender::new(0)),
        })
    }

    /// Which database this is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// A bell: changes after every commit of this process. Other replicas' commits do not ring it, so who watches must
    /// also poll now and then.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Runs `body` in a read transaction: all its queries see one moment.
    pub async fn read<T, E>(
        &self,
        body: impl FnOnce(&mut AnyConnection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        self.run(("read", &self.readers, dialect::begin_read), body, || ()).await
    }

    /// Runs `body` in a write transaction, committed when it returns Ok and rolled back otherwise. It sees every earlier
    /// write. Once begun it runs to its end even if the returned future is dropped.
    pub async fn write<T, E>(
        &self,
        body: impl FnOnce(&mut AnyConnection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        let changed = Arc::clone(&self.changed);
        self.run(("write", &self.writer, dialect::begin_write), body, move || {
            changed.send_modify(|commits| *commits = commits.wrapping_add(1));
        })
        .await
    }

    /// Whether the database answers soon; for readiness.
    pub async fn ping(&self) -> Result<()> {
        let asking = self.read(|connection| crate::settings::get(connection, "ping").map(drop));
        let late = |_| Err(Error::Unavailable("it does not answer".to_owned()));
        tokio::time::timeout(PING_TIMEOUT, asking).await.unwrap_or_else(late)
    }

    async fn run<T, E>(
        &self,
        (operation, lane, begin): (&'static str, &Lane, Begin),
        body: impl FnOnce(&mut AnyConnection) -> Result<T, E> + Send + 'static,
        committed: impl FnOnce() + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        let acquired = tokio::time::timeout(self.acquire_timeout, Arc::clone(&lane.permits).acquire_owned()).await;
        let Ok(Ok(permit)) = acquired else {
            return Err(Error::Unavailable("every connection is busy".to_owned()).into());
        };
        let lane = lane.clone();
        let work = move || {
            let _permit = permit;
            let mut connection = lane.connection()?;
            let started = Instant::now();
            let outcome = transaction(&mut connection, begin, body);
            let took = started.elapsed().as_secs_f64();
            metrics::histogram!("recorder_db_query_seconds", "operation" => operation).record(took);
            let value = outcome?;
            committed();
            Ok(value)
        };
        if self.inline {
            return work();
        }
        let working = tokio::task::spawn_blocking(work);
        match tokio::time::timeout(self.answer_timeout, working).await {
            Ok(outcome) => outcome.unwrap_or_else(|_| Err(Error::Panicked.into())),
            Err(_) => Err(Error::Unavailable("it does not answer".to_owned()).into()),
        }
    }
}

impl std::fmt::Debug for Db {
    // The pool's own output would show the URL, and with it a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Db").field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl Lane {
    fn new(target: &Target, connections: u32, query_only: bool, options: &Options) -> Result<Self> {
        let pool = Pool::builder()
            .max_size(connections)
            .min_idle(Some(1))
            // A database in memory ends with its connection, and the others gain nothing from being reopened.
            .max_lifetime(None)
            .idle_timeout(None)
            .connection_timeout(options.acquire_timeout)
            .error_handler(Box::new(NopErrorHandler))
            .build(Manager { target: target.clone(), query_only })
            .map_err(|error| Error::Unavailable(error.to_string()))?;
        Ok(Self { pool, permits: Arc::new(Semaphore::new(connections as usize)) })
    }

    fn connection(&self) -> Result<PooledConnection<Manager>> {
        self.pool.get().map_err(|error| Error::Unavailable(error.to_string()))
    }
}

fn transaction<T, E: From<Error>>(
    connection: &mut PooledConnection<Manager>,
    begin: fn(&mut AnyConnection) -> Result<()>,
    body: impl FnOnce(&mut AnyConnection) -> Result<T, E>,
) -> Result<T, E> {
    begin(connection)?;
    // Caught here, where the transaction can still be rolled back and the connection kept.
    let outcome = catch_unwind(AssertUnwindSafe(|| body(connection))).unwrap_or_else(|_| Err(Error::Panicked.into()));
    match outcome {
        Ok(value) => {
            dialect::commit(connection)?;
            Ok(value)
        }
        Err(error) => {
            // What went wrong first is what the caller must hear; a connection that cannot roll back is discarded.
            let _ = dialect::rollback(connection);
            Err(error)
        }
    }
}
