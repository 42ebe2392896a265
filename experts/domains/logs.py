# ruff: noqa: E501 (the data is one phrase or sentence a line)
"""Log triage: a raw log line or a short stack trace -> the one label of its root cause.

The labels:

    out_of_memory      memory of a process, container or heap is used up
    disk_full          no space, inodes or quota left on a file system
    connection_refused nothing listens at the other end (ECONNREFUSED)
    timeout            an answer or a lock did not come within its time
    auth_failure       wrong or expired password, token or key: who you are is not accepted (401)
    dns_failure        a host name cannot be resolved
    tls_error          certificate or handshake problem
    permission_denied  known, but not allowed: file modes, grants, roles (403, EACCES)
    null_reference     null, None, nil or undefined was used as an object
    rate_limited       too many requests (429, quota per time)
    missing_file       a file or directory does not exist (ENOENT, 404 of a file)
    port_in_use        the address to listen on is taken (EADDRINUSE)

Scorer: first line that is not empty, without code fence, quotes, backticks and a leading "label:" or "root cause:"; case folded, spaces
and hyphens count as underscores, a final full stop is dropped. It must then be the label itself.
"""

import random
import re
from collections.abc import Callable

from experts.domains.base import Domain, Question
from experts.domains.general import expand, roughen

# One message a line: "<kind> <text>". The kind says which log envelope it may come in (see ENVELOPES); "raw" comes as it
# is. ``\n`` is a line break, ``[a|b]`` a choice, ``{slot}`` comes from the pools.
TRAIN_MESSAGES = {
    "out_of_memory": r"""
        kernel Out of memory: [Kill|Killed] process {pid} ({svc}) [score {n} or sacrifice child|total-vm:{big}kB, anon-rss:{big}kB]
        kernel oom-kill:constraint=CONSTRAINT_MEMCG,task={svc},pid={pid},uid=0
        kernel {svc} invoked oom-killer: gfp_mask=0x100cca, order=0
        kernel Memory cgroup out of memory: Killed process {pid} ({svc})
        java java.lang.OutOfMemoryError: [Java heap space|GC overhead limit exceeded|Metaspace|Direct buffer memory]
        java Exception in thread "[main|worker-{d}|pool-{d}-thread-{d}]" java.lang.OutOfMemoryError: unable to create new native thread
        raw Traceback (most recent call last):\n  File "{path}/{svc}.py", line {n}, in load\n    data = f.read()\nMemoryError
        raw numpy.core._exceptions.MemoryError: Unable to allocate {d}.{d} GiB for an array with shape ({big},)
        raw torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate {d}.00 GiB
        raw FATAL ERROR: [Reached heap limit|CALL_AND_RETRY_LAST] Allocation failed - JavaScript heap out of memory
        raw runtime: out of memory: cannot allocate {big}-byte block ({big} in use)\nfatal error: out of memory
        k8s [Warning OOMKilling|State: Terminated, Reason: OOMKilled, Exit Code: 137] [pod/{pod}|container {svc}]
        k8s container {svc} in pod {pod} was OOMKilled, memory limit {n}Mi [exceeded|reached]
        pg ERROR: out of memory DETAIL: Failed on request of size {n}.
        app [Can't allocate memory|Cannot allocate memory|malloc failed: Cannot allocate memory]
        app OOM command not allowed when used memory > 'maxmemory'
        syslog fork: Cannot allocate memory
        app worker {pid} was sent SIGKILL! Perhaps out of memory?
        app heap usage at 99 %, [allocation of {big} bytes failed|giving up: no memory left]""",
    "disk_full": r"""
        app [write|copy|flush] failed: No space left on device [({path}/{svc}.log)|]
        app [OSError|IOError]: [Errno 28] No space left on device: '{path}/{svc}.tmp'
        java java.io.IOException: No space left on device
        pg [PANIC|ERROR]: could not [write to|extend] file "[pg_wal/xlogtemp.{pid}|base/{pid}/{n}]": No space left on device
        nginx [crit] {pid}#0: *{n} pwrite() "{path}/{n}" failed (28: No space left on device)
        kernel EXT4-fs [warning|error] (device {disk}): ext4_da_writepages: no space: err -28
        kernel BTRFS: device {disk}: space exhausted, ENOSPC
        k8s Warning Evicted pod/{pod} The node was low on resource: ephemeral-storage
        k8s Warning NodeHasDiskPressure node/{host} status is now: DiskPressure
        k8s Warning FreeDiskSpaceFailed node/{host} failed to garbage collect required amount of images, disk usage 9{d}%
        syslog [rsyslogd|journald]: cannot write to {path}: no space left
        raw Error: ENOSPC: no space left on device, write '{path}/{svc}.json'
        app [disk quota exceeded|Disk quota exceeded] while writing {path}/{svc}.dat
        app filesystem {path} is [100%|99.9%] full, [stopping writes|cannot store message]
        app elasticsearch: flood stage disk watermark [95%] exceeded on [{host}], index is read-only
        app MISCONF Redis can't save: Write error saving DB on disk: No space left on device
        app volume {path}: no free inodes, file not created
        raw docker: write {path}/layer.tar: no space left on device.
        syslog low disk: 0 bytes free on /dev/{disk}, backup aborted""",
    "connection_refused": r"""
        app [connect|dial|connection] to {ip}:{port} failed: Connection refused
        app [could not connect|unable to connect|cannot connect] to [redis|{svc}|backend] at {fqdn}:{port}: Connection refused
        java java.net.ConnectException: Connection refused [(Connection refused)|: {fqdn}/{ip}:{port}|: connect]
        raw Error: connect ECONNREFUSED {ip}:{port}\n    at TCPConnectWrap.afterConnect [as oncomplete] (node:net:{n}:16)
        raw Traceback (most recent call last):\n  File "{path}/{svc}.py", line {n}, in connect\n    sock.connect(addr)\nConnectionRefusedError: [Errno 111] Connection refused
        nginx [error] {pid}#0: *{n} connect() failed (111: Connection refused) while connecting to upstream, upstream: "http://{ip}:{port}/"
        raw psql: error: connection to server at "{fqdn}" ({ip}), port 5432 failed: Connection refused
        app dial tcp {ip}:{port}: connect: connection refused
        k8s Warning Unhealthy pod/{pod} Readiness probe failed: Get "http://{ip}:{port}/healthz": dial tcp {ip}:{port}: connect: connection refused
        raw curl: (7) Failed to connect to {fqdn} port {port}: Connection refused
        syslog ssh: connect to host {fqdn} port 22: Connection refused
        app pika.exceptions.AMQPConnectionError: [Errno 111] Connection refused ({ip}:5672)
        app MySQL error 2003: Can't connect to MySQL server on '{ip}' (111 Connection refused)
        app upstream {svc} refused the connection on port {port}
        app os error 111: connection refused ({ip}:{port})
        app nothing is listening on {ip}:{port}, got RST, connection refused
        raw requests.exceptions.ConnectionError: HTTPConnectionPool(host='{fqdn}', port={port}): Max retries exceeded: [Errno 111] Connection refused
        syslog relay={fqdn}[{ip}]:25: Connection refused, status=deferred""",
    "timeout": r"""
        nginx [error] {pid}#0: *{n} upstream timed out (110: Connection timed out) while reading response header from upstream
        java java.net.SocketTimeoutException: [Read timed out|connect timed out]
        java java.util.concurrent.TimeoutException: [Future|Request] did not complete within {n} ms
        app [request|call|query] to {svc} timed out after [{n}ms|{d}0 seconds|{d}s]
        app context deadline exceeded [(Client.Timeout exceeded while awaiting headers)|while calling {svc}]
        raw requests.exceptions.ReadTimeout: HTTPSConnectionPool(host='{fqdn}', port=443): Read timed out. (read timeout={d})
        raw asyncio.exceptions.TimeoutError: {svc} gave no answer in {d}0 s
        pg ERROR: canceling statement due to [statement timeout|lock timeout]
        app Lock wait timeout exceeded; try restarting transaction
        raw Error: connect ETIMEDOUT {ip}:{port}
        raw curl: (28) Operation timed out after {n} milliseconds with 0 bytes received
        k8s Warning Unhealthy pod/{pod} Liveness probe failed: [command timed out|Get "http://{ip}:{port}/": context deadline exceeded]
        access "GET /{svc}/{n} HTTP/1.1" 504 {n} "Gateway Time-out"
        kernel nfs: server {fqdn} not responding, timed out
        app gateway timeout: no response from {svc} within {d}s
        app [redis|{svc}] timeout: waited {n}ms for a reply, giving up
        app HikariPool-{d} - Connection is not available, request timed out after {n}ms.
        syslog {svc}.service: start operation timed out. Terminating.
        app rpc error: code = DeadlineExceeded desc = deadline expired before {svc} answered""",
    "auth_failure": r"""
        auth Failed password for [invalid user |]{user} from {ip} port {port} ssh2
        auth pam_unix([sshd|su|login]:auth): authentication failure; rhost={ip} user={user}
        pg FATAL: password authentication failed for user "{user}"
        app Access denied for user '{user}'@'{ip}' (using password: YES)
        app [login failed|authentication failed] for [user |]{user}: [wrong password|bad credentials|invalid credentials]
        app [JWT expired|token expired|invalid token signature|invalid bearer token], [rejecting request|returning 401] [from {ip}|]
        java org.springframework.security.authentication.BadCredentialsException: Bad credentials
        access "[POST /login|GET /api/{svc}] HTTP/1.1" 401 {n}
        app WRONGPASS invalid username-password pair or user is disabled.
        app 401 Unauthorized: [API key is missing|API key not valid|invalid access token]
        raw remote: Invalid username or password.\nfatal: Authentication failed for 'https://{fqdn}/{svc}.git/'
        k8s Failed to pull image "{fqdn}/{svc}": unauthorized: authentication required
        syslog SASL LOGIN authentication failed: UGFzc3dvcmQ6 ({ip})
        auth error: maximum authentication attempts exceeded for {user} from {ip} port {port} ssh2
        app LDAP bind failed for {user}: invalid credentials (49)
        app mongo: Authentication failed for {user}, SCRAM proof does not match
        app smtp 535 5.7.8 Error: authentication failed: bad username or password
        app login of {user} rejected: [refresh token revoked|credentials no longer valid|password expired]
        nginx [error] {pid}#0: *{n} user "{user}": password mismatch, client: {ip}""",
    "dns_failure": r"""
        java java.net.UnknownHostException: {fqdn}[: Name or service not known|]
        raw Error: getaddrinfo [ENOTFOUND|EAI_AGAIN] {fqdn}\n    at GetAddrInfoReqWrap.onlookup (node:dns:{n}:26)
        raw socket.gaierror: [Errno -2] Name or service not known
        raw socket.gaierror: [Errno -3] Temporary failure in name resolution
        app dial tcp: lookup {fqdn} on {ip}:53: [no such host|server misbehaving]
        nginx [emerg] {pid}#0: host not found in upstream "{fqdn}:{port}"
        nginx [error] {pid}#0: *{n} {fqdn} could not be resolved (3: Host not found)
        raw curl: (6) Could not resolve host: {fqdn}
        syslog ssh: Could not resolve hostname {fqdn}: Name or service not known
        raw psql: error: could not translate host name "{fqdn}" to address: Name or service not known
        app [could not|failed to|cannot] resolve [host|hostname] {fqdn}
        syslog systemd-resolved: Server returned error NXDOMAIN for {fqdn}
        syslog named: SERVFAIL unexpected RCODE resolving '{fqdn}/A/IN': {ip}#53
        k8s Warning Failed pod/{pod} dial tcp: lookup {fqdn}: no such host
        raw fatal: unable to access 'https://{fqdn}/{svc}.git/': Could not resolve host: {fqdn}
        raw E: Failed to fetch http://{fqdn}/{svc}.deb  Temporary failure resolving '{fqdn}'
        app NameResolutionError: Failed to resolve '{fqdn}'
        syslog Host or domain name not found. Name service error for name={fqdn} type=MX
        app DNS query for {fqdn} returned [NXDOMAIN|SERVFAIL], no address for {svc}""",
    "tls_error": r"""
        java javax.net.ssl.SSLHandshakeException: [PKIX path building failed: unable to find valid certification path to requested target|Received fatal alert: handshake_failure]
        raw ssl.SSLCertVerificationError: [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: [certificate has expired|self-signed certificate|unable to get local issuer certificate]
        app x509: certificate [signed by unknown authority|has expired or is not yet valid|is valid for {fqdn_b}, not {fqdn}]
        app remote error: tls: [bad certificate|handshake failure|protocol version not supported]
        nginx [crit] {pid}#0: *{n} SSL_do_handshake() failed (SSL: error:14094410:SSL routines:ssl3_read_bytes:sslv3 alert handshake failure)
        nginx [emerg] {pid}#0: SSL_CTX_use_PrivateKey("{path}/{svc}.key") failed (SSL: key values mismatch)
        raw Error: [self signed certificate in certificate chain|unable to verify the first certificate|certificate has expired]\n    at TLSSocket.onConnectSecure (node:_tls_wrap:{n}:34)
        raw curl: (60) SSL certificate problem: [certificate has expired|unable to get local issuer certificate|self signed certificate]
        raw curl: (35) error:1408F10B:SSL routines:ssl3_get_record:wrong version number
        app TLS handshake [error|failed] with {ip}: [EOF|no shared cipher|unknown ca]
        pg LOG: could not accept SSL connection: [sslv3 alert bad certificate|unsupported protocol]
        k8s Failed to pull image "{fqdn}/{svc}": x509: certificate signed by unknown authority
        app certificate of {fqdn} expired on 20{d}{d}-0{d}-1{d}, connection aborted
        syslog OpenVPN: TLS Error: TLS key negotiation failed to occur, VERIFY ERROR: certificate is not yet valid
        app hostname {fqdn} doesn't match certificate subject [*.{fqdn_b}|CN={fqdn_b}]
        app ssl: peer {fqdn} presented an untrusted [root|issuer|certificate chain]
        syslog postfix/smtpd: SSL_accept error from {fqdn}[{ip}]: -1
        app rustls: invalid peer certificate: [Expired|UnknownIssuer|NotValidForName]""",
    "permission_denied": r"""
        app [open|mkdir|unlink|read] {path}/{svc}.conf: [permission denied|Permission denied]
        app PermissionError: [Errno 13] Permission denied: '{path}/{svc}.log'
        java java.nio.file.AccessDeniedException: {path}/{svc}.xml
        java java.io.FileNotFoundException: {path}/{svc}.log (Permission denied)
        nginx [error] {pid}#0: *{n} open() "{path}/index.html" failed (13: Permission denied), client: {ip}
        raw Error: EACCES: permission denied, [open|mkdir|unlink] '{path}/{svc}'
        pg ERROR: permission denied for [table|schema|sequence] {svc}
        pg ERROR: must be owner of table {svc}
        k8s Error from server (Forbidden): pods is forbidden: User "{user}" cannot list resource "pods" in namespace "{svc}"
        syslog sudo: {user} : user NOT in sudoers ; TTY=pts/{d} ; COMMAND=/bin/bash
        kernel audit: type=1400 apparmor="DENIED" operation="open" name="{path}/{svc}" pid={pid}
        syslog SELinux is preventing {svc} from write access on the directory {path}
        access "[GET|DELETE] /admin/{svc} HTTP/1.1" 403 {n}
        app 403 Forbidden: [role {user} may not delete {svc}|missing scope {svc}.write|{user} lacks the required role]
        raw bash: {path}/{svc}.sh: Permission denied
        app AccessDenied: User {user} is not authorized to perform s3:PutObject on {svc}
        raw docker: permission denied while trying to connect to the Docker daemon socket at unix:///var/run/docker.sock
        app SELECT command denied to user '{user}'@'{ip}' for table '{svc}'
        syslog {svc}: cannot open {path}: Operation not permitted""",
    "null_reference": r"""
        java java.lang.NullPointerException[: Cannot invoke "{cls}.get{cls}()" because "<local{d}>" is null|]
        raw Exception in thread "main" java.lang.NullPointerException\n\tat com.{svc}.{cls}.run({cls}.java:{n})\n\tat java.base/java.lang.Thread.run(Thread.java:829)
        raw Traceback (most recent call last):\n  File "{path}/{svc}.py", line {n}, in handle\n    return item.{field}\nAttributeError: 'NoneType' object has no attribute '{field}'
        raw TypeError: 'NoneType' object is not [subscriptable|iterable|callable]
        raw TypeError: Cannot read [properties of undefined (reading '{field}')|properties of null (reading '{field}')|property '{field}' of undefined]\n    at {cls}.render ({path}/{svc}.js:{n}:{d})
        raw panic: runtime error: invalid memory address or nil pointer dereference\n[signal SIGSEGV: segmentation violation code=0x1 addr=0x0]
        raw System.NullReferenceException: Object reference not set to an instance of an object.\n   at {cls}.Load() in {path}/{cls}.cs:line {n}
        raw NoMethodError (undefined method `{field}' for nil:NilClass)
        raw PHP Fatal error: Uncaught Error: Call to a member function {field}() on null in {path}/{svc}.php:{n}
        raw thread 'main' panicked at 'called `Option::unwrap()` on a `None` value', src/{svc}.rs:{n}:{d}
        kernel BUG: [kernel NULL pointer dereference, address: 0000000000000008|unable to handle kernel NULL pointer dereference at (null)]
        raw Uncaught TypeError: undefined is not [an object (evaluating '{svc}.{field}')|a function]
        raw kotlin.KotlinNullPointerException\n\tat {cls}Service.update({cls}Service.kt:{n})
        raw AttributeError: 'NoneType' object has no attribute '{field}'
        app unhandled error in {cls}: {field} was null
        app NPE in {cls}.{field}() - argument is null
        raw Fatal error: Unexpectedly found nil while unwrapping an Optional value: file {cls}.swift, line {n}
        raw TypeError: unsupported operand type(s) for +: 'NoneType' and 'int'""",
    "rate_limited": r"""
        access "[GET|POST] /api/{svc} HTTP/1.1" 429 {n}
        app [HTTP 429|429 Too Many Requests|status 429] from {fqdn}[, retry after {d}0 s|: slow down|]
        app rate limit [exceeded|reached] for [client |key |user |]{user}[: {n} requests per minute|]
        nginx [error] {pid}#0: *{n} limiting requests, excess: {d}.{n} by zone "{svc}", client: {ip}
        app openai.RateLimitError: Error code: 429 - Rate limit reached for requests
        app botocore.exceptions.ClientError: An error occurred (ThrottlingException): Rate exceeded
        app [SlowDown|Throttled]: Please reduce your request rate ({svc})
        java com.{svc}.client.TooManyRequestsException: quota of {n} calls per minute is used up
        k8s Failed to pull image "{svc}:latest": toomanyrequests: You have reached your pull rate limit
        app Quota exceeded for quota metric 'Read requests' and limit 'per minute' of service {fqdn}
        app rpc error: code = ResourceExhausted desc = too many requests, [limit {n}/s|try later]
        app client {ip} throttled: [burst of {n} exceeded|more than {n} requests in 60s]
        raw github.RateLimitExceededException: 403 API rate limit exceeded for {ip}
        app X-RateLimit-Remaining: 0, [pausing {svc} sync|backing off {d}0s]
        syslog postfix: warning: Message delivery request rate limit exceeded: {n} from {fqdn}
        app Waited {d}.{n}s due to client-side throttling, not priority and fairness
        app too many requests from {ip}, [blocked for {n} s|request dropped]
        app Twilio error 20429: Too many requests, {svc} queue paused""",
    "missing_file": r"""
        raw Traceback (most recent call last):\n  File "{path}/{svc}.py", line {n}, in <module>\n    cfg = open(name)\nFileNotFoundError: [Errno 2] No such file or directory: '{path}/{svc}.yaml'
        java java.io.FileNotFoundException: {path}/{svc}.properties (No such file or directory)
        java java.nio.file.NoSuchFileException: {path}/{svc}.json
        raw Error: ENOENT: no such file or directory, [open|stat|scandir] '{path}/{svc}.json'
        nginx [error] {pid}#0: *{n} open() "{path}/{svc}.png" failed (2: No such file or directory), client: {ip}
        nginx [emerg] {pid}#0: open() "/etc/nginx/{svc}.conf" failed (2: No such file or directory)
        app [open|stat|read] {path}/{svc}.toml: no such file or directory
        pg ERROR: could not open file "base/{pid}/{n}": No such file or directory
        raw bash: {path}/{svc}.sh: No such file or directory
        syslog {svc}.service: Failed at step EXEC spawning {path}/{svc}: No such file or directory
        syslog cron: can't open {path}/{svc}.sh: No such file
        k8s Warning FailedMount pod/{pod} MountVolume.SetUp failed: hostPath {path} does not exist
        app [config|template|data] file {path}/{svc}.ini [not found|does not exist|is missing]
        raw {svc}: error while loading shared libraries: lib{svc}.so.{d}: cannot open shared object file: No such file or directory
        app std::fs::read: Os { code: 2, kind: NotFound, message: "No such file or directory" }
        raw chdir: {path}: directory does not exist
        app missing file: expected {path}/{svc}.csv, found nothing
        raw PHP Warning: include({path}/{svc}.php): failed to open stream: No such file or directory""",
    "port_in_use": r"""
        raw Error: listen EADDRINUSE: address already in use [:::{port}|{ip}:{port}]
        raw OSError: [Errno 98] [Address already in use|error while attempting to bind on address ('0.0.0.0', {port}): address already in use]
        nginx [emerg] {pid}#0: bind() to 0.0.0.0:[80|443|{port}] failed (98: Address already in use)
        java java.net.BindException: Address already in use[: bind| (Bind failed)|]
        app listen tcp [:{port}|0.0.0.0:{port}|{ip}:{port}]: bind: address already in use
        app Web server failed to start. Port {port} was already in use.
        pg LOG: could not bind IPv4 address "{ip}": Address already in use HINT: Is another postmaster already running on port 5432?
        syslog sshd: error: Bind to port 22 on 0.0.0.0 failed: Address already in use.
        raw docker: Error response from daemon: [Bind for 0.0.0.0:{port} failed: port is already allocated|driver failed programming external connectivity: port {port} is already allocated].
        syslog httpd: (98)Address already in use: make_sock: could not bind to address [::]:{port}
        app [cannot|could not|unable to] [start|launch] {svc}: port {port} is [taken|already taken|occupied|in use]
        app redis: Could not create server TCP listening socket *:{port}: bind: Address already in use
        k8s 0/{d} nodes are available: {d} node(s) didn't have free ports for the requested pod ports
        raw thread 'main' panicked: error binding to 0.0.0.0:{port}: Address already in use (os error 98)
        raw [ERROR] Connection in use: ('0.0.0.0', {port})\n[ERROR] Retrying in 1 second.
        app bind on {ip}:{port} refused, another [process|instance] already listens there
        app System.IO.IOException: Failed to bind to address http://{ip}:{port}: address already in use.
        syslog {svc}: tcp port {port} in use by pid {pid}, exiting""",
}

HELD_MESSAGES = {
    "out_of_memory": r"""
        app MemoryError: cannot allocate buffer of {big} bytes
        k8s pod {pod} terminated, last state OOMKilled (exit 137)
        raw java.lang.OutOfMemoryError: Requested array size exceeds VM limit\n\tat com.{svc}.{cls}.grow({cls}.java:{n})
        raw std::bad_alloc: {svc} ran out of memory at {n} MiB""",
    "disk_full": r"""
        app failed to append to segment {n}: no space left on device
        syslog logrotate: error writing to {path}/{svc}.1: No space left on device
        app {path} has 0 MB free, upload rejected because the disk is full
        raw tar: {path}/{svc}.tar: Wrote only {n} of 10240 bytes: No space left on device""",
    "connection_refused": r"""
        app kafka broker {fqdn}:{port} - connect: connection refused
        raw telnet: Unable to connect to remote host: Connection refused ({ip} {port})
        app upstream connect error: {svc} at {ip}:{port} answered ECONNREFUSED
        raw redis.exceptions.ConnectionError: Error 111 connecting to {fqdn}:{port}. Connection refused.""",
    "timeout": r"""
        app waited {d}0 s for {svc}, no reply, timed out
        raw pymongo.errors.NetworkTimeout: {fqdn}:{port}: timed out
        java java.sql.SQLTimeoutException: query exceeded {n} ms
        app health check of {svc} failed: i/o timeout""",
    "auth_failure": r"""
        app sign-in of {user} rejected: incorrect password
        syslog vsftpd: FAIL LOGIN: user {user}, client "{ip}", wrong password
        app upstream {fqdn} said 401 Unauthorized, access token expired
        raw botocore.exceptions.ClientError: InvalidClientTokenId: The security token included in the request is invalid""",
    "dns_failure": r"""
        raw wget: unable to resolve host address '{fqdn}'
        app no such host: {fqdn} (lookup by resolver {ip})
        raw ping: {fqdn}: Temporary failure in name resolution
        raw MongoServerSelectionError: getaddrinfo ENOTFOUND {fqdn}""",
    "tls_error": r"""
        app x509 verification of {fqdn} failed: expired certificate
        raw openssl: verify error:num=18:self signed certificate, CN={fqdn}
        java javax.net.ssl.SSLException: closed during handshake, no common cipher suite
        app https call to {fqdn}: SSL handshake aborted, untrusted issuer""",
    "permission_denied": r"""
        raw rsync: opendir "{path}" failed: Permission denied (13)
        app 403: {user} is not allowed to edit {svc}
        raw touch: cannot touch '{path}/{svc}': Permission denied
        pg ERROR: permission denied for function {svc}_refresh""",
    "null_reference": r"""
        raw TypeError: Cannot read properties of null (reading '{field}')\n    at async {svc}Handler ({path}/{svc}.ts:{n}:{d})
        raw AttributeError: 'NoneType' object has no attribute '{field}'\nraised by {svc}.tasks line {n}
        java java.lang.NullPointerException: {field} must not be null
        raw [signal SIGSEGV] panic: nil pointer dereference in {cls}.{field}""",
    "rate_limited": r"""
        app {fqdn} answered Too Many Requests (429), next try in {n}s
        app ThrottlingException: rate exceeded for {svc}
        app tenant {user} went over {n} req/min, throttling
        app Slack API: ratelimited, Retry-After {d}0""",
    "missing_file": r"""
        raw cat: {path}/{svc}.txt: No such file or directory
        app failed to load {path}/{svc}.pem: file does not exist
        raw FileNotFoundError: [Errno 2] No such file or directory: '{svc}.parquet'
        raw cp: cannot stat '{path}/{svc}': No such file or directory""",
    "port_in_use": r"""
        raw uvicorn: [Errno 98] error while attempting to bind on address ('{ip}', {port}): address already in use
        app starting {svc} failed, port {port} already in use
        app listener {svc}: bind {ip}:{port}: EADDRINUSE
        java org.apache.catalina.LifecycleException: Address already in use (port {port})""",
}

TRAIN_ENVELOPES = {
    "syslog": "{mon} {day} {time} {host} {svc_b}[{pid}]: {m}||<{d}>{mon} {day} {time} {host} {m}||{m}",
    "auth": "{mon} {day} {time} {host} sshd[{pid}]: {m}||{iso} {host} sshd: {m}",
    "kernel": "{mon} {day} {time} {host} kernel: {m}||[{n}.{pid}] {m}||kernel: [{pid}.{n}] {m}",
    "nginx": "{date_s} {time} {m}||nginx: {date_s} {time} {m}",
    "access": '{ip} - - [{day}/{mon}/2024:{time} +0000] {m}||{ip} {host} {m} "-" "curl/8.{d}"',
    "java": "{date} {time},{n} ERROR [{thread}] c.e.{cls}Service - {m}||{m}\\n\\tat com.{svc_b}.{cls}.call({cls}.java:{n})"
    "||{time} [{thread}] ERROR {cls}Controller - {m}||Caused by: {m}",
    "pg": "{date} {time} UTC [{pid}] {m}||{date} {time}.{n} CET [{pid}] {user}@{svc_b} {m}||postgres[{pid}]: {m}",
    "k8s": "{m}||{d}m ago  {m}||E{n} {time} {pid} kubelet.go:{n}] {m}",
    "app": "{date} {time} ERROR {m}||{iso} [error] {svc_b}: {m}||ERROR:{svc_b}:{m}||{date} {time},{n} - {svc_b} - ERROR - {m}"
    '||{"level":"error","ts":"{iso}","msg":"{m}"}||level=error time={iso} msg="{m}"||{mon} {day} {time} {host} {svc_b}[{pid}]: {m}'
    "||[{svc_b}] {m}||E {time} {thread} {m}||{svc_b}-{d} | {m}||{m}",
    "raw": "{m}||{m}||{iso} {m}||{svc_b}_1  | {m}",
}
HELD_ENVELOPES = {
    "syslog": "{iso} {host} {m}",
    "k8s": "{host} kubelet: {m}||LAST SEEN {d}m  {m}",
    "java": "{iso} SEVERE [{thread}] {m}||{host} {svc_b} ERROR {m}",
    "pg": "[{pid}] {user} {date} {time} {m}",
    "app": "{time} | ERROR | {svc_b} | {m}||{date} {time} [E] {m}||[{iso}] {host} {svc_b} FATAL: {m}||{svc_b}: {m} (pid {pid})",
    "raw": "{m}||{host}$ {m}",
}

TRAIN_TEMPLATES = r"""
What is the root cause of this log [line|entry|message]?\n{m}
[Triage|Classify] this log [line|entry|message]: {m}
[Label|Tag] the root cause of this [error|log line|log]: {m}
Root cause label for this [log|error|line]?\n{m}
root cause? {m}
{m}\n[What went wrong? One label.|Root cause label?|Which root cause is this?|Classify this log.|Triage please.]
Log: {m}\nRoot cause:
Log line:\n{m}\nAnswer with the root-cause label only.
Give [me|] the root cause label of [the following|this] [log output|error]: {m}
Which [error class|root cause|failure type] does this log show?\n{m}
[Please triage|Can you triage|Could you triage] this for me: {m}
My [service|server|app|job] [crashed|died|stopped] with this [log|message], what is the root cause label? {m}
I found this in the logs of {svc_b}: {m}\nWhat's the root cause [label|category]?
Our [on-call|monitoring|pager] got this: {m}\nLabel the cause.
Log triage. Input: {m}
[Categorise|Categorize] the failure in this log [line|excerpt|]: {m}
Sort this log line into a root-cause category: {m}
Why did this fail? [One label|Label only]. {m}
What kind of failure is this log line? {m}
Read the log and name the root cause in one label.\n\n{m}
Stack trace or log below. [What is the cause|Root cause|Which label]?\n```\n{m}\n```
[The deployment|The build|The nightly job] failed, log says: {m} - root cause label?
Diagnose this log [entry|line] with a single label: {m}
Determine the root cause: {m}
One word label for the cause of this error log: {m}
Incident log:\n{m}\nWhich cause?
Assign a root cause to this log message -> {m}
I get this error on {host}, [what's the cause|classify it]: {m}
[Hi|Hey], [what's|what is] the root cause here? {m}
label this log: {m}
```\n{m}\n```\n[Root cause of this log?|Label the root cause of the log above.]
""".strip().splitlines()

HELD_TEMPLATES = r"""
Help me file this log entry under the right cause: {m}
{m}\nIn one label, why did that happen?
We see this every few minutes in production.\n{m}\nName the root cause.
Error log >>> {m} <<< triage label =
Put a triage label on the following line from our logs.\n{m}
Tell me the underlying cause (label only) of: {m}
For the incident report I need the cause label of this log. {m}
Found while going through the logs: {m} What category of failure?
Short triage, just the label: {m}
From the server log, cause wanted: {m}
What would an SRE call the cause of this log message? {m}
""".strip().splitlines()

_SERVICES = (
    "billing|orders|payments|search|inventory|mailer|gateway|catalog|reports|worker|scheduler|ingest|users|tickets|webhook"
    "|media|indexer|pricing|shipping|crawler|analytics|backup|frontend|profile|events|metrics|exporter|proxy|renderer|sync"
)
TRAIN_POOLS = {
    "svc": _SERVICES,
    "svc_b": _SERVICES,
    "host": "web01|web02|db-master|db3|node-7|node-12|app-eu-1|ip-10-0-3-17|cache01|build-3|mx1|gw-prod|k3s-2|nas|vm42|srv9",
    "fqdn": "api.example.com|db.internal|redis.prod.local|auth.corp.lan|cdn.example.net|mq.svc.cluster.local|registry.acme.io"
    "|smtp.acme.io|search.prod.local|storage.example.org|git.corp.lan|vault.internal|ldap.corp.lan|pay.example.com",
    "user": "admin|root|deploy|alice|app_user|jenkins|backup|reporting|bob|svc-orders|postgres|guest|ci-bot|mallory|readonly",
    "path": "/var/log|/var/lib/app|/data|/tmp|/srv/www|/opt/app|/home/deploy|/etc/app|/mnt/backup|/usr/share/app|/app|/var/cache",
    "cls": "Order|Invoice|User|Cart|Report|Payment|Search|Coupon|Profile|Product|Message|Image|Import|Ticket",
    "field": "name|id|price|email|length|items|total|user|status|title|address|value|group|owner",
    "disk": "sda1|sdb2|nvme0n1p1|dm-0|vda1|xvdf|md0",
    "thread": "main|worker-3|http-nio-8080-exec-4|pool-2-thread-9|scheduler-1|io-5|grpc-0",
}
HELD_POOLS = {
    "svc": "ledger|checkout|wishlist|geocoder|chatbot|newsletter|voucher|thumbnailer",
    "svc_b": "ledger|checkout|wishlist|geocoder|chatbot|newsletter|voucher|thumbnailer",
    "host": "edge-fra-2|pg-replica|zeus|worker-blue-4|rack17|staging1",
    "fqdn": "hooks.partner.dev|kafka-0.stream.lan|maps.vendor.co|warehouse.intra.net|ident.zone.eu",
    "user": "carol|etl|grafana|dave|webmaster|api-client-9",
    "path": "/var/spool/jobs|/srv/media|/opt/etl|/mnt/archive|/usr/local/lib/geo",
    "cls": "Ledger|Voucher|Route|Basket|Address",
    "field": "currency|latitude|sku|nickname|parent",
    "disk": "sdc1|nvme1n1|vdb3",
    "thread": "netty-2|batch-1|consumer-6",
}

HELD_WRITTEN = [
    ("out_of_memory", "my node app keeps dying, whats the cause?\n\n<--- Last few GCs --->\nFATAL ERROR: Ineffective mark-compacts near heap limit Allocation failed - JavaScript heap out of memory"),
    ("out_of_memory", "pls triage: [1284.551] Out of memory: Killed process 991 (mysqld) total-vm:4120332kB"),
    ("disk_full", "jenkins build broke again. log says `cp: error writing 'out.bin': No space left on device` root cause label?"),
    ("disk_full", "hey can you label this one, comes from postgres: PANIC:  could not write to file \"pg_wal/xlogtemp.77\": No space left on device"),
    ("connection_refused", "cant reach the db since the restart :( sqlalchemy.exc.OperationalError: could not connect to server: Connection refused. Is the server running on host \"10.1.1.4\" and accepting connections on port 5432? -> label"),
    ("connection_refused", "whats the root cause here, curl: (7) Failed to connect to localhost port 9200 after 0 ms: Connection refused"),
    ("timeout", "Triage this, I have no idea what it means. 2024/02/11 03:12:55 [error] 31#31: *88 upstream timed out (110: Connection timed out) while connecting to upstream, client: 10.2.0.9"),
    ("timeout", "one label please: Error: Timeout of 30000ms exceeded while waiting for selector '#pay'"),
    ("auth_failure", "someone is hammering my vps. Mar  9 22:14:01 vps sshd[4120]: Failed password for root from 203.0.113.77 port 50122 ssh2 ... root cause label?"),
    ("auth_failure", "git push fails w/ 'remote: HTTP Basic: Access denied. The provided password or token is incorrect' what category is that log"),
    ("dns_failure", "Label the cause: requests.exceptions.ConnectionError: Failed to resolve 'api.wether.com' ([Errno -2] Name or service not known)"),
    ("dns_failure", "root cause of this line from my container pls -> npm ERR! code ENOTFOUND npm ERR! getaddrinfo ENOTFOUND registry.npmjs.org"),
    ("tls_error", "The partner's API stopped working this morning. Log: SSLError(SSLCertVerificationError(1, 'certificate verify failed: certificate has expired')). Which label?"),
    ("tls_error", "triage: http: TLS handshake error from 10.9.8.7:51144: remote error: tls: unknown certificate authority"),
    ("permission_denied", "what does the log want from me?? label it: mkdir: cannot create directory '/opt/tool': Permission denied"),
    ("permission_denied", "Root cause label? EACCES: permission denied, access '/usr/lib/node_modules'"),
    ("null_reference", "our intern pushed something and now the log is full of: TypeError: Cannot read properties of undefined (reading 'map')   cause?"),
    ("null_reference", "Exception in thread \"main\" java.lang.NullPointerException\n\tat Main.parse(Main.java:14)\n\nhomework crashed, what's the root cause label"),
    ("rate_limited", "triage pls. the import script logs this all the time now: HTTP error 429 Too Many Requests, Retry-After: 30"),
    ("rate_limited", "docker pull is broken, label the root cause: toomanyrequests: You have reached your pull rate limit. You may increase the limit by authenticating"),
    ("missing_file", "cron mail from last night, what is the cause? /bin/sh: 1: /home/pi/backup.sh: not found - No such file or directory"),
    ("missing_file", "Label this log line, thx. FileNotFoundError: [Errno 2] No such file or directory: 'data/train.csv'"),
    ("port_in_use", "why wont it start, give me the label:   Error: listen EADDRINUSE: address already in use :::3000"),
    ("port_in_use", "flask says Address already in use. Port 5000 is in use by another program. Triage label?"),
]  # fmt: skip

LABELS = tuple(TRAIN_MESSAGES)
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def train(rng: random.Random, n: int) -> list[Question]:
    """`n` distinct questions, every label equally often."""
    return _distinct(n, [], lambda i: _question(rng, LABELS[i % len(LABELS)], held=False))


def held_out(rng: random.Random, n: int) -> list[Question]:
    """`n` distinct questions from log messages, templates and names of their own, the hand-written ones first."""
    written = [Question(prompt, label, source="human") for label, prompt in HELD_WRITTEN]
    return _distinct(n, written, lambda i: _question(rng, LABELS[i % len(LABELS)], held=True))


def score(question: Question, output: str) -> bool:
    """Is the output the label? See the module docstring for what is normalised."""
    lines = [line for line in re.sub(r"```\w*\n", "", output).splitlines() if line.strip("` \t")]
    if not lines:
        return False
    label = lines[0].strip().strip("\"'`*").strip().casefold()
    label = re.sub(r"^(?:the )?(?:root cause|cause|label)(?: is)?\s*:?\s+", "", label).strip("\"'`*. ")
    return re.sub(r"[\s-]+", "_", label) == question.answer


def _question(rng: random.Random, label: str, held: bool) -> Question:
    messages = (HELD_MESSAGES if held else TRAIN_MESSAGES)[label].strip().splitlines()
    kind, message = rng.choice(messages).strip().split(" ", 1)
    envelopes = (HELD_ENVELOPES if held else TRAIN_ENVELOPES)[kind].split("||")
    line = rng.choice(envelopes).replace("{m}", _choices(rng, message))
    template = expand(rng, rng.choice(HELD_TEMPLATES if held else TRAIN_TEMPLATES))
    if not held and rng.random() < 0.25:
        template = roughen(rng, template.replace(r"\n", " \n ")).replace(" \n ", r"\n")
    prompt = template.replace("{m}", line).replace(r"\n", "\n").replace(r"\t", "\t")
    pools = HELD_POOLS if held else TRAIN_POOLS
    return Question(re.sub(r"\{(\w+)\}", lambda found: _slot(rng, pools, found[1]), prompt), label)


def _choices(rng: random.Random, message: str) -> str:
    # Only brackets that hold a "|" are choices: logs are full of brackets of their own.
    return re.sub(
        r"\[((?:[^\[\]|]|\[[^\[\]]*\])*(?:\|(?:[^\[\]|]|\[[^\[\]]*\])*)+)\]", lambda f: _split(rng, f[1]), message
    )


def _split(rng: random.Random, choices: str) -> str:
    return rng.choice(choices.split("|"))


def _slot(rng: random.Random, pools: dict[str, str], name: str) -> str:
    if name in pools:
        return rng.choice(pools[name].split("|"))
    if name == "fqdn_b":
        return "old-" + _slot(rng, pools, "fqdn")
    clock = f"{rng.randrange(24):02}:{rng.randrange(60):02}:{rng.randrange(60):02}"
    date = f"{rng.randrange(2022, 2026)}-{rng.randrange(1, 13):02}-{rng.randrange(1, 29):02}"
    values = {
        "d": str(rng.randrange(1, 10)),
        "n": str(rng.randrange(100, 1000)),
        "pid": str(rng.randrange(1000, 33000)),
        "big": str(rng.randrange(1_000_000, 90_000_000)),
        "port": str(
            rng.choice([3000, 3306, 5000, 6379, 8000, 8080, 8443, 9000, 9090, 9200, rng.randrange(1025, 60000)])
        ),
        "ip": f"{rng.choice(['10.0', '192.168', '172.17', '203.0'])}.{rng.randrange(256)}.{rng.randrange(1, 255)}",
        "pod": f"{_slot(rng, pools, 'svc')}-{rng.randrange(16**9, 16**10):x}-{rng.randrange(16**4, 16**5):x}",
        "time": clock,
        "date": date,
        "date_s": date.replace("-", "/"),
        "iso": f"{date}T{clock}Z",
        "mon": rng.choice(MONTHS),
        "day": str(rng.randrange(1, 29)),
    }
    return values[name]


def _distinct(n: int, first: list[Question], make: Callable[[int], Question]) -> list[Question]:
    questions = {question.prompt.casefold(): question for question in first}
    for i in range(n * 50):
        if len(questions) >= n:
            return list(questions.values())[:n]
        question = make(i)
        questions.setdefault(question.prompt.casefold(), question)
    raise ValueError(f"logs: only {len(questions)} distinct questions where {n} were asked for; ask for fewer")


DOMAIN = Domain(
    name="logs",
    summary="Triages a log line or stack trace to its root cause (out_of_memory, disk_full, timeout, tls_error, ...)",
    train=train,
    held_out=held_out,
    score=score,
    max_tokens=12,
    examples=2048,
)
