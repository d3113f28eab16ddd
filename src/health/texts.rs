//! The words of each rule: title, meaning, what to do. Ours, in plain English, apart from the numbers in
//! `catalogue` so that both fit a screen.
#![allow(non_upper_case_globals, reason = "each text is named like the rule it belongs to")]

/// The words of one rule.
pub(super) struct Words {
    pub title: &'static str,
    pub text: &'static str,
    pub recommendation: &'static str,
}

macro_rules! words {
    ($($id:ident: $title:literal, $text:literal, $recommendation:literal;)+) => {
        $(pub(super) const $id: Words = Words { title: $title, text: $text, recommendation: $recommendation };)+
    };
}

words! {
    Disconnected: "Disconnected",
        "No heartbeat has arrived for the whole silence window, so nothing is known about this sensor now. Its other messages show their last known state.",
        "Check that the machine runs, then its route, DNS and firewall (UDP) to this server. The sensor's own page shows when it was last heard on each of the three clocks.";
    SelfTestFailed: "Self-test failed",
        "The sensor's check of its own parts failed, or has not run for too long.",
        "Look for hardware faults on the machine, then restart it. If the same test fails again, collect diagnostics and open a ticket.";
    NoTraffic: "No traffic detected",
        "The sensor runs, but not one packet reached its monitored interfaces within the window.",
        "Check the mirror port or tap that feeds this sensor, its cable, and that the network behind it is active.";
    BackupFailed: "Backup failed",
        "The last backup did not succeed, or the last good one is older than allowed.",
        "The evidence says why. Free space or repair the route to the backup server, then start a backup by hand.";
    NtpUnreachable: "Time server unreachable",
        "A time server is configured and does not answer, so the sensor's clock runs free.",
        "Open UDP port 123 towards the time server, or configure another one in the sensor's settings.";
    DirectoryUnreachable: "Directory servers unreachable",
        "None of the configured directory servers answers, so directory users can't sign in on the sensor.",
        "Check that the domain controllers run, and the ports and names under which the sensor reaches them.";
    BandwidthExceeded: "Monitored traffic over the limit",
        "The sensor sees more traffic than its hardware profile is made for; detections may be missed.",
        "Mirror less to it, choose a better place on the network, or move to a larger profile.";
    DevicesExceeded: "Monitored devices over the limit",
        "The sensor tracks more devices than its hardware profile is made for.",
        "Split the monitored network over more sensors, or move to a larger profile.";
    PackageTransferFailed: "Update package did not arrive",
        "An update package could not be brought to the sensor, or its transfer never ends.",
        "Check the link and the free space on the sensor, then send the package again.";
    UpdateFailed: "Update failed",
        "The sensor could not install an update, took far too long, or runs another version than the update promised.",
        "Read the update's error in the evidence. The sensor keeps its previous version; collect diagnostics before you try again.";
    UnstableLink: "Unstable link to the server",
        "Too many heartbeats are lost on the way, or the connection breaks again and again.",
        "Check the WAN, firewalls with short UDP timeouts on the path, and whether a bandwidth cap is set too low.";
    VersionUnsupported: "Version not supported",
        "The software version of this sensor is past the end of its support.",
        "Plan an update to a supported version; the evidence names the newest one.";
    PartiallyConnected: "Partly connected",
        "The sensor reports, but can't reach some of the endpoints that it needs.",
        "The evidence names each failing endpoint and the reason: DNS, certificate, proxy credentials, or no route. Repair that in the sensor's network settings or on the path.";
    NtpNotConfigured: "No time server configured",
        "The sensor has no time server, so its clock will drift and its events will carry wrong times.",
        "Set a time server in the sensor's settings.";
    BandwidthNearLimit: "Monitored traffic near the limit",
        "The sensor sees nearly as much traffic as its hardware profile is made for.",
        "Plan a larger profile or mirror less before packets are lost.";
    DevicesNearLimit: "Monitored devices near the limit",
        "The sensor tracks nearly as many devices as its hardware profile is made for.",
        "Plan a larger profile or another sensor.";
    DiskAlmostFull: "Disk almost full",
        "The root or the data partition has little room left.",
        "Remove old captures and backups, or open a ticket; the evidence names the partition.";
    PendingActivation: "Waiting for activation",
        "The sensor is registered and has not connected yet.",
        "Upload its activation file on the sensor. If you did, check that it reaches this server.";
    PendingReactivation: "Waiting for reactivation",
        "The sensor must be activated again after a change of plan, mode or site.",
        "Download its new activation file and upload it on the sensor.";
    CaptureOverload: "Capture loses packets",
        "The sensor drops a share of the packets that reach its monitored interfaces.",
        "Mirror less to it, look for a busy process or disk on the machine, or move to a larger profile.";
    ClockDrift: "Clock is off",
        "The sensor's clock differs from the server's by more than the network can explain.",
        "Repair time synchronisation on the sensor. If all sensors show this at once, check the server's clock.";
    CertificateExpiring: "Certificate expires soon",
        "The sensor's certificate runs out soon and has not been renewed by itself.",
        "Check that the sensor may renew; if it stays like this, download a new activation file.";
    DuplicateIdentity: "Identity used twice",
        "Two machines connect with the same identity and push each other out.",
        "Find the copy (a cloned machine or a restored image), stop it, and activate this sensor again with a fresh key.";
    RestartLoop: "Restarts again and again",
        "The sensor's software was started several times within a short time.",
        "Look at the sensor's system log for crashes or a lack of memory; collect diagnostics.";
    SettingsOutOfSync: "Settings not applied",
        "The sensor does not run with the settings that are meant for it.",
        "Check whether the sensor refused them or was changed by hand; it applies them again when it connects.";
    ThreatIntelOutdated: "Threat intelligence outdated",
        "A newer threat-intelligence package exists and has not reached this sensor.",
        "Push the package, or switch automatic updates on for this sensor.";
    ThreatIntelFailed: "Threat intelligence update failed",
        "The last threat-intelligence package could not be installed.",
        "Push the package again; if it fails again, collect diagnostics.";
    PlannedStop: "Stopped on purpose",
        "The sensor said goodbye before it stopped. Its silence is not a fault; its other messages show their last known state.",
        "Nothing to do. Start it again, or delete it if it is not coming back.";
    GatewaySilent: "Gateway silent",
        "Nothing has arrived from this gateway for its whole silence window. The sensors behind it can't be judged.",
        "Check the gateway's machine and its route to this server; its sensors need no visit before that.";
    SiteOutage: "Site outage",
        "Most sensors of this site fell silent. Their own messages are folded into this one.",
        "Look for one common cause: the site's uplink, its power, or its firewall.";
}
