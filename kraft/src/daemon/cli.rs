//! The command line.

use std::env;
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Arg, ArgMatches, Args, Command, FromArgMatches, Parser, Subcommand, value_parser};

use super::certs::Certs;
use super::config::{FIELDS, Field, Layers, Loaded, load};
use super::demo::Demo;
use super::inspect::LogAction;
use super::recover::Recover;
use super::repair::Repair;
use super::{Exit, Failure, doctor, init, logging, restore, serve};
use crate::storage::{Expected, Folder, FolderError, RealFiles};

/// The file in the data folder that is read if no other is named.
const FILE_NAME: &str = "kraftd.toml";

/// A node of a replicated log: writes a data folder, runs the node in it, looks at it.
#[derive(Debug, Parser)]
#[command(name = "kraftd", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Write the data folder of a node, once.
    Init(InitArgs),
    /// Run the node in a data folder.
    Serve(ServeArgs),
    /// Tell which event loops work here, which one would run, and what the system's limits allow.
    ///
    /// Exit status: 0 if one would run, 78 if none is available, 1 if the one that is lacks something.
    Doctor(DoctorArgs),
    /// Look at the log of a node that is down.
    #[command(subcommand)]
    Log(LogAction),
    /// Set the damaged log of a node that is down aside, so that the others send it again.
    ///
    /// Only for a node that does not start since its log is damaged (exit status 74), in a cluster whose other members have
    /// a majority without it. Nothing is deleted. Started again, the node takes what the others have, and votes when it has
    /// made up for what it lost.
    Repair(Repair),
    /// Go on with one node when the majority of a cluster is lost for good. Loses data: see the flags.
    ///
    /// The last resort. What this node has becomes what the cluster has. It comes back under another incarnation, so that
    /// former members and it refuse each other.
    Recover(Recover),
    /// Make certificates for a first cluster: an authority, a certificate a node, one for clients. What is there is kept.
    Certs(Certs),
    /// Show three nodes on this host under load, and what becomes of writes when nodes die, stop, come and go.
    Demo(Demo),
    #[cfg(feature = "sim")]
    Simulate(super::simulate::Simulate),
    /// Tell the configuration.
    #[command(subcommand)]
    Config(ConfigAction),
}

#[derive(Debug, Subcommand)]
enum ConfigAction {
    /// Print each value with its source, as a TOML file that would set them.
    Show(ShowArgs),
}

#[derive(Args, Debug)]
struct InitArgs {
    /// The folder, empty or to be made, or KRAFT_DATA.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Begin with the state in this file, which `kraftctl snapshot save` wrote, or which is in the data folder of a
    /// former node. Each node of the new cluster begins with the same file, and the cluster has another name.
    #[arg(long, value_name = "FILE")]
    from_snapshot: Option<PathBuf>,
    /// Make a node that is to be added to a cluster that runs: it waits until `kraftctl member add` names it, and is told the
    /// members. In place of --peers.
    #[arg(long, conflicts_with_all = ["peers", "from_snapshot"])]
    join: bool,
    #[command(flatten)]
    identity: IdentityFlags,
}

#[derive(Args, Debug)]
struct ServeArgs {
    /// The data folder that init wrote, or KRAFT_DATA.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Stop when stdin ends, as it does when the parent dies that holds its other end.
    #[arg(long)]
    exit_with_parent: bool,
    #[command(flatten)]
    settings: Settings,
}

#[derive(Args, Debug)]
struct ShowArgs {
    /// The data folder that init wrote, or KRAFT_DATA; without it, what init writes is missing.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings,
}

#[derive(Args, Debug)]
struct DoctorArgs {
    /// The data folder that init wrote, or KRAFT_DATA; without it the defaults count.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// How it is printed.
    #[arg(short, long, value_enum, default_value_t = doctor::Output::Table)]
    output: doctor::Output,
    #[command(flatten)]
    settings: Settings,
}

/// A flag for each field that init writes.
#[derive(Debug)]
struct IdentityFlags(Vec<(&'static str, String)>);

/// `--config`, and a flag for each field of the table.
#[derive(Debug)]
pub(super) struct Settings {
    file: Option<PathBuf>,
    flags: Vec<(&'static str, String)>,
}

/// The whole program. Called by the binary `kraftd` and by nobody else: it sets up the logging and signals of the
/// process.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version come this way too, to stdout.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { Exit::Usage as u8 } else { 0 });
        }
    };
    let code = match cli.action.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if logging::is_started() {
                log::error!(exit_code = failure.exit as u8; "{failure}");
            } else {
                let _ = writeln!(io::stderr(), "kraftd: {failure}");
            }
            ExitCode::from(failure.exit as u8)
        }
    };
    log::logger().flush();
    code
}

impl Action {
    fn run(&self) -> Result<(), Failure> {
        match self {
            Self::Init(args) => args.run(),
            Self::Serve(args) => args.run(),
            Self::Doctor(args) => args.run(),
            Self::Log(action) => action.run(),
            Self::Repair(repair) => repair.run(),
            Self::Recover(recover) => recover.run(),
            Self::Certs(certs) => certs.run(),
            Self::Demo(demo) => demo.run(),
            #[cfg(feature = "sim")]
            Self::Simulate(simulate) => simulate.run(),
            Self::Config(ConfigAction::Show(args)) => args.run(),
        }
    }
}

impl InitArgs {
    fn run(&self) -> Result<(), Failure> {
        let data = required_data(self.data.as_deref())?;
        let mut flags = self.identity.0.clone();
        if self.join {
            flags.push(("peers", "join".to_owned()));
        }
        let loaded = load(&Layers {
            flags,
            ..Layers::default()
        })?;
        let begins = match &self.from_snapshot {
            Some(file) => restore::write(&data, &loaded, file)?,
            None => {
                init::write(&data, &loaded)?;
                String::new()
            }
        };
        print(&format!(
            "wrote {}{begins}; start the node with: kraftd serve --data {}\n",
            data.display(),
            data.display()
        ))
    }
}

impl ServeArgs {
    fn run(&self) -> Result<(), Failure> {
        let data = required_data(self.data.as_deref())?;
        let folder = Folder::open(&data, Expected::default()).map_err(|error| init::folder_failure(&data, &error))?;
        let loaded = self.settings.load(Some(&data), init::layer(folder.identity()))?;
        serve::run(&data, &folder, &loaded, self.exit_with_parent)
    }
}

impl ShowArgs {
    fn run(&self) -> Result<(), Failure> {
        let data = self.data.clone().or_else(|| path_variable("KRAFT_DATA"));
        let loaded = self.settings.load_written(data.as_deref())?;
        for warning in &loaded.warnings {
            let _ = writeln!(io::stderr(), "kraftd: {warning}");
        }
        print(&loaded.show())?;
        // Without a folder what init writes is missing, which is no mistake here.
        if data.is_some() { loaded.validate() } else { Ok(()) }
    }
}

impl DoctorArgs {
    fn run(&self) -> Result<(), Failure> {
        let data = self.data.clone().or_else(|| path_variable("KRAFT_DATA"));
        let loaded = self.settings.load_written(data.as_deref())?;
        if data.is_some() {
            loaded.validate()?;
        }
        let report = doctor::examine(&loaded.config);
        print(&report.show(self.output))?;
        report.verdict()
    }
}

impl Settings {
    /// With what init wrote to the folder, if one is named. It is read without the lock: the node may run meanwhile.
    fn load_written(&self, data: Option<&Path>) -> Result<Loaded, Failure> {
        let written = data.map(identity_layer).transpose()?.unwrap_or_default();
        self.load(data, written)
    }

    pub(super) fn load(&self, data: Option<&Path>, init: Vec<(&'static str, String)>) -> Result<Loaded, Failure> {
        load(&Layers {
            init,
            file: self.file.clone().or_else(|| path_variable("KRAFT_CONFIG")),
            file_default: data.map(|data| data.join(FILE_NAME)),
            variables: env::vars_os().collect(),
            flags: self.flags.clone(),
        })
    }
}

fn identity_layer(data: &Path) -> Result<Vec<(&'static str, String)>, Failure> {
    let identity = RealFiles::open(data)
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => FolderError::NoIdentity(data.to_owned()),
            _ => FolderError::Failed(data.to_owned(), error),
        })
        .and_then(|files| Folder::read_identity(&files));
    identity
        .map(|identity| init::layer(&identity))
        .map_err(|error| init::folder_failure(data, &error))
}

pub(super) fn required_data(given: Option<&Path>) -> Result<PathBuf, Failure> {
    let data = given.map(Path::to_owned).or_else(|| path_variable("KRAFT_DATA"));
    data.ok_or_else(|| Failure {
        exit: Exit::Usage,
        message: "no data folder is named: use --data DIR or KRAFT_DATA".to_owned(),
    })
}

impl FromArgMatches for IdentityFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(Self(flags_of(matches)))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.0 = flags_of(matches);
        Ok(())
    }
}

impl Args for IdentityFlags {
    fn augment_args(command: Command) -> Command {
        let fields = init::WRITTEN.iter().filter_map(|name| Field::named(name));
        command.args(fields.map(|field| match field.name {
            "peers" => flag(field).required_unless_present("join"),
            _ => flag(field).required(true),
        }))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Settings {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut settings = Self {
            file: None,
            flags: Vec::new(),
        };
        settings.update_from_arg_matches(matches)?;
        Ok(settings)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.file = matches.get_one::<PathBuf>("config").cloned();
        self.flags = flags_of(matches);
        Ok(())
    }
}

impl Args for Settings {
    fn augment_args(command: Command) -> Command {
        let file = Arg::new("config")
            .long("config")
            .value_name("FILE")
            .value_parser(value_parser!(PathBuf))
            .help(format!(
                "A TOML file, or KRAFT_CONFIG; without it {FILE_NAME} in the data folder if there is one"
            ));
        command
            .arg(file)
            .next_help_heading("Fields, also as KRAFT_… and in the file")
            .args(FIELDS.iter().map(flag))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

/// The flag of a field. It takes any text: what is wrong with a value is said in one way for all sources.
fn flag(field: &Field) -> Arg {
    // As clap shows its own.
    let default = field.default().map(|text| format!(" [default: {text}]"));
    let default = default.unwrap_or_default();
    Arg::new(field.name)
        .long(field.flag())
        .value_name(field.form)
        .allow_hyphen_values(true)
        .help(format!("{}{default}", field.doc.trim()))
}

fn flags_of(matches: &ArgMatches) -> Vec<(&'static str, String)> {
    let given = |field: &Field| Some((field.name, matches.try_get_one::<String>(field.name).ok()??.clone()));
    FIELDS.iter().filter_map(given).collect()
}

fn path_variable(name: &str) -> Option<PathBuf> {
    env::var_os(name)
        .filter(|value: &OsString| !value.is_empty())
        .map(PathBuf::from)
}

/// Prints to stdout. A reader that has seen enough is no failure.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::new(format!("stdout: {error}"))),
        _ => Ok(()),
    }
}
