"""What the engine says to people: every sentence once, in English, under a key that hosts translate by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import reduce
from typing import Final

SENTENCES: Final[Mapping[str, str]] = {
    # how a line is reached
    "line_address_bad": '"{url}" needs a host and a port from 1 to 65535, for example tcp://192.168.1.20:502',
    "line_scheme_bad": '"{url}" begins with {scheme}://; a line is tcp://host:port, rfc2217://host:port or a port',
    "host_unknown": 'The host name "{host}" is not known: check the spelling, or give the IP address.',
    "nothing_listens": (
        "Nothing listens at {where}: is the port right, and is the gateway set up as TCP server? "
        "Many gateways also refuse a second program while one is connected."
    ),
    "connect_timeout": "No answer from {where} within {seconds} s: is the device on, and is its address right?",
    "no_route": "There is no way to {where} in the network: check address, cable and network settings.",
    "connect_forbidden": "The system does not allow a connection to {where}: check firewall and permissions.",
    "connect_failed": "No connection to {where}: {reason}.",
    "port_missing": "There is no port {path}: is the adapter plugged in, and is the name right?",
    "port_forbidden": (
        "No permission to use {path}: the user of this program must be in the port's group, often dialout."
    ),
    "port_is_folder": "{path} is a folder, not a serial port.",
    "port_in_use": "{path} is in use by another program: close that one, or give each its own adapter.",
    "port_unfit": "{path} is not a serial port, or it cannot do these settings (baud, parity, bits).",
    "port_dead": "The device behind {path} does not answer the system: unplug it and plug it in again.",
    "port_failed": "{path} could not be opened: {reason}.",
    "lost_closed": "{name} closed the connection.",
    "lost_reset": "{name} broke off the connection: it restarted, or another program took it over.",
    "lost_dead": "{name} is no longer there: no sign of life from the device or the network.",
    "lost_broke": "The connection to {name} broke: {reason}.",
    "port_closed": "The port {name} is closed.",
    "connection_closed": "The connection to {name} is closed.",
    # a line as a whole
    "line_closed": "The line {line} was closed.",
    "line_not_connected": "The line {line} is not connected.",
    "line_not_connected_yet": "The line {line} is not connected yet.",
    "line_never_silent": "The line {line} is never silent: another master or a faulty device talks on it.",
    "line_deaf": "No meter on {line} has answered for {seconds} s.",
    "polling_stopped": "Polling of the line {line} was stopped.",
    "poll_process_gone": "The process that polls the meters has ended and is being started again: {reason}.",
    "all_garbled": "All {count} meters of {line} send only garbled bytes: check baud rate, parity and wiring.",
    "none_answers": (
        "None of the {count} meters of {line} answers: "
        "check their supply, the wiring (A and B swapped?), baud rate and parity."
    ),
    # the test of a line
    "test_not_opened": "The line could not be opened, so no meter was asked.",
    "test_answers_rtu": "The device does not speak Modbus TCP, but it answers in Modbus RTU: it passes bytes through.",
    "test_choose_rtu": "Choose Modbus RTU over TCP for this line, or set the gateway to Modbus TCP.",
    "test_answers_tcp": "The device does not pass Modbus RTU through, but it answers in Modbus TCP.",
    "test_choose_tcp": "Choose Modbus TCP for this line, or set the gateway to transparent mode.",
    "test_check_meter": (
        "Check the meter's address, supply and wiring (A and B swapped?), and baud rate and parity of the line."
    ),
    # meters that cannot be polled
    "no_meter": "There is no meter {meter} on the line {line}.",
    "no_meter_any_more": "There is no meter {meter} on the line {line} any more.",
    "bad_unit": '"{address}" is no Modbus unit; a unit is a number from 1 to {most}',
    "bad_meter_number": '"{address}" is no DL/T 645 address; it has 12 digits, leading zeros included',
    "broadcast_number": (
        '"{address}" is the DL/T 645 address of all meters at once, to which none answers; give the 12 digits of one'
    ),
    "no_settlement": "{meter} keeps no settlement {number}.",
    "gave_nothing": "{meter} answered the question for {di} with nothing.",
    "profile_broken_records": "{words} words are no whole number of profile records of {record} words.",
    "profile_none": "The file of the meter is no profile.",
    "profile_newer": "The profile of the meter is of a version that is not known.",
    "profile_short": "The header of the profile breaks off.",
    "profile_impossible": "The header of the profile describes no possible profile.",
    "clock_shows_no_time": "The clock of the meter shows no time.",
    "meter_flaw": "{name}: {error}",
    "model_speaks_other": "{name}: the model {model} does not speak {protocol}; choose another of both",
    "model_has_nothing": "{name} answers, but has none of the registers of the model {model}: choose the right model.",
    "unit_shared": "{names} have the same unit {address} on this line; give each its own, then they are read.",
    "address_shared": "{names} have the same address {address} on this line; give each its own, then they are read.",
    # Modbus
    "modbus_speaks_rtu": ("Modbus unit {unit}: the far end speaks Modbus RTU (transparent); change the line's framing"),
    "modbus_speaks_tcp": "Modbus unit {unit}: the far end speaks Modbus TCP; change the line's framing",
    "modbus_foreign_rtu": (
        "Modbus unit {unit}: {count} valid frame(s) came, but none answers the question; "
        "look for two meters with one address or a second master on the line"
    ),
    "modbus_foreign_tcp": (
        "Modbus unit {unit}: {count} valid frame(s) came, but none answers the question; "
        "another client is at work, or the gateway does not keep transaction numbers"
    ),
    "modbus_other_number": (
        "Modbus unit {unit}: a reply came that fits, but under another transaction number; "
        "the gateway does not send numbers back as Modbus TCP demands, or another client is at work"
    ),
    "modbus_two_replies": (
        "Modbus unit {unit}: two different replies came to one question; "
        "look for two meters with one address, or a gateway that keeps back replies"
    ),
    "modbus_damaged": (
        "Modbus unit {unit}: {count} bytes came, but no complete valid frame; "
        "check baud rate, parity, wiring and termination, and whether two meters have this unit"
    ),
    "modbus_no_reply": "Modbus unit {unit}: no reply; check the meter's supply, address, wiring and baud rate",
    "modbus_only_echo": (
        "Modbus unit {unit}: only the echo of the request came back; "
        "check the meter's supply, address, wiring and baud rate"
    ),
    "modbus_only_late": (
        "Modbus unit {unit}: no reply, only a late one to an earlier question; "
        "check the meter's supply, address, wiring and baud rate"
    ),
    "modbus_refused": "Modbus unit {unit}, {question}: {said} (exception {code})",
    "modbus_gateway": (
        "Modbus unit {unit}, {question}: {said} (exception {code}); "
        "check the meter's address, wiring and baud rate behind the gateway"
    ),
    "modbus_read": "registers {first} to {last} (function {function})",
    "modbus_read_file": "file {file} from record {record} on",
    "modbus_write": "writing registers {first} to {last}",
    "modbus_says_1": "it does not know this function",
    "modbus_says_2": "it has no such register",
    "modbus_says_3": "it does not accept this number of registers or this value",
    "modbus_says_4": "it reports a failure of its own",
    "modbus_says_5": "it has accepted the request and needs longer to answer",
    "modbus_says_6": "it is busy, ask again later",
    "modbus_says_7": "it cannot do this now",
    "modbus_says_8": "it reports a memory error",
    "modbus_says_10": "the gateway has no path to it",
    "modbus_says_11": "the gateway got no reply from it",
    "modbus_says_other": "it answered with a code of its maker",
    "modbus_word_count": "{count} registers came where {asked} were asked for",
    # DL/T 645
    "dlt645_other_question": (
        "Meter {meter} answered another question than {question}. "
        "Look for two meters with one address, or a reply that came too late."
    ),
    "dlt645_other_meter": (
        "Meter {other} answered instead of {meter}, which was asked for {question}. "
        "Look for two meters with one address, or a reply that came too late."
    ),
    "dlt645_other_edition": (
        "Meter {meter} answered by the rules of DL/T 645-{edition} when asked for {question}: "
        "choose a model of that edition."
    ),
    "dlt645_damaged": (
        "Something answered when meter {meter} was asked for {question}, but no whole frame came: "
        "check baud rate, parity and wiring, and whether two meters have this address or another device talks "
        "at the same time."
    ),
    "dlt645_no_reply": (
        "Meter {meter} did not answer when asked for {question}; "
        "check that it is on, its address and wiring (A and B swapped?), and baud rate and parity (often 2400 8E1)."
    ),
    "dlt645_only_echo": (
        "Meter {meter} did not answer when asked for {question} (only our own request came back as an echo); "
        "check that it is on, its address and wiring (A and B swapped?), and baud rate and parity (often 2400 8E1)."
    ),
    "dlt645_frame": "{di}, frame {number}",
    "dlt645_own_address": "its address",
    "dlt645_broadcast_time": "the broadcast time",
    "dlt645_refused": "Meter {meter} refused {question}: {reasons} (error byte {code}).",
    "dlt645_reason_none": "no reason given",
    "dlt645_reason_other": "another error",
    "dlt645_reason_no_such_data": "it has no such data",
    "dlt645_reason_password_or_unauthorised": "wrong password or no right to it",
    "dlt645_reason_speed_cannot_be_changed": "the baud rate cannot be changed",
    "dlt645_reason_too_many_seasons": "too many time zones of the year",
    "dlt645_reason_too_many_day_slots": "too many time slots of the day",
    "dlt645_reason_too_many_tariffs": "too many tariffs",
    "dlt645_reason_reserved": "a reserved error",
    "dlt645_reason_illegal_data": "illegal data",
    "dlt645_reason_di_error": "it does not know the identifier",
    "dlt645_reason_password": "wrong password",
    "dlt645_reason_bit": "error bit {bit}",
    "dlt645_out_of_turn": "meter {meter}: frame {number} of {di} came out of turn",
    "dlt645_endless": "meter {meter}: the answer to {di} never ends",
    "dlt645_item_length": "{di} ({item}): {count} bytes came where {size} belong",
    "dlt645_item_multiple": "{di} ({item}): {count} bytes are no multiple of {size}",
    "dlt645_item_bad": "{di} ({item}) cannot be read: {error}",
    "dlt645_no_digit": "{data} holds a half byte that is no decimal digit",
    "dlt645_no_date": "{data} is no date",
    "dlt645_no_time": "{data} is no time",
    "dlt645_no_moment": "{data} is no date and time",
    # whether values fit a meter
    "fit_nothing": "It answers, but gives no value of the {model}.",
    "fit_volts": "Its voltages are right: {least} to {most} V.",
    "fit_no_volts": "It shows no voltage, so nothing speaks for or against it.",
    "fit_odd_volts": "Its voltage is unusual: {volts} V.",
    "fit_bad_volts": "Its voltage is impossible: {volts} V.",
    "fit_hertz": "Its frequency is right: {hertz} Hz.",
    "fit_bad_hertz": "Its frequency is impossible: {hertz} Hz.",
    "fit_no_hertz": "It shows a voltage but 0 Hz.",
    "fit_dead_phase": "Phase {phase} shows 0 V, yet it has power or the voltage to another phase is whole.",
    "fit_beyond": "It shows {value} {unit}, which the model does not: {least} to {most} {unit}.",
    "fit_bad_current": "A current is impossible: {amperes} A.",
    "fit_bad_power_factor": "A power factor is impossible: {value}.",
    "fit_power": "Power, voltage and current go together.",
    "fit_bad_power": "Power and current do not go together: {kw} kW where {kva} kVA flow.",
    "fit_sum": "The powers of the phases add up to the total.",
    "fit_bad_sum": "The powers of the phases do not add up to the total.",
    "fit_bad_energy": "An energy register is impossible: {value}.",
    "misfit_word_order": (
        "Read as {model} the voltage or frequency is {was}; with the words in the other order ({order}) it "
        "would be {now}: set the meter's word order, or choose the model with that order."
    ),
    "misfit_scale": (
        "Read as {model} the meter shows {was}, which cannot be; {now} would be right (× {factor}): choose "
        "the model with that scale."
    ),
    "misfit_another_model": (
        "Read as {model} the meter shows {value}, which cannot be: it is another model, so choose the right one."
    ),
    "word_order_high": "high word first",
    "word_order_low": "low word first",
    # a scan of a line
    "scan_clash_unit": (
        "At least two meters answer as Modbus unit {unit}: their replies damage each other. Disconnect one "
        "and give it another unit."
    ),
    "scan_clash_meter": (
        "At least two meters answer as {meter}: their replies damage each other. Disconnect one and change its address."
    ),
    "scan_garbled_unit": (
        "Replies of Modbus unit {unit} come damaged again and again: most likely two meters have this unit, "
        "so disconnect one and give it another. If only one is there, check its wiring, baud rate and parity."
    ),
    "scan_garbled_meter": (
        "Replies of meter {meter} come damaged again and again: most likely two meters have this address, so "
        "disconnect one and change its address. If only one is there, check its wiring, baud rate and parity."
    ),
    "scan_any_unit": "This device answers whichever unit is asked: it is one meter, not many.",
    "scan_device_itself": "The device answers only as unit {unit}: set its unit to a number from 1 to 247.",
    "scan_only_wildcard": "A meter answers, but does not say who it is: take the address that is printed on it.",
    "scan_noise": (
        "{count} bytes came on {line} within {seconds} s although nobody was asked: another master talks, "
        "the baud rate or parity is wrong, or termination and shielding are missing."
    ),
    "scan_disturbed": (
        "After {count} of {asked} questions on {line} only damaged bytes came: check baud rate, parity, "
        "wiring and termination, and whether another master talks."
    ),
    "identify_code": "It says that it is of this model: code {code}.",
    "identify_silent": "The meter {meter} stopped answering while it was asked who it is: scan once more.",
    "identify_unknown": "It answers, but is none of the models that are known: choose or write a template for it.",
    # the ledger
    "ledger_unavailable": "The ledger {path} cannot be used: {reason}.",
    "ledger_in_use": "The ledger {path} is in use by another program: only one may open it.",
    "ledger_disk_full": (
        "The disk of the ledger {path} is full: free some space. Until then, what is read is kept in memory."
    ),
    "ledger_newer": (
        "The ledger {path} was written by a newer version of this program (form {version}, known is {ours}): update it."
    ),
    "ledger_damaged": "The ledger {path} is damaged: {reason}. Restore it from a backup.",
    "ledger_no_point": "The ledger knows no point {point}.",
    "ledger_no_interval": "The ledger has no interval of {point} at {start}.",
    "ledger_no_period": "From {since} to {until} is no period: it is empty or reversed.",
    "ledger_no_subscriber": "The ledger has no subscriber {name}.",
    "ledger_bad_acknowledgement": (
        "{name} cannot acknowledge revision {revision}: it acknowledged a later one, or the newest is {newest}."
    ),
    "ledger_no_reason": "A correction of the ledger needs an author and a reason.",
    # alarms
    "alarm_high_power": "{name}: power {value}, above {limit}.",
    "alarm_daily_budget": "{name} has used {value} today, more than its budget of {limit}.",
    "alarm_high_consumption": "{name} used {value} in the last hour; {limit} would still be usual.",
    "alarm_demand_near_contract": (
        "{name}: this quarter of an hour heads for a demand of {value}, near the contract (above {limit})."
    ),
    "alarm_demand_over_contract": (
        "{name}: this quarter of an hour heads for a demand of {value}, over the contract ({limit})."
    ),
    "alarm_low_power_factor": "{name}: power factor {value}, below {limit}.",
    "alarm_over_voltage": "{name}: voltage {value}, above {limit}.",
    "alarm_under_voltage": "{name}: voltage {value}, below {limit}.",
    "alarm_phase_loss": "{name}: a phase is lost, its voltage is {value}. Check fuses and connections.",
    "alarm_current_unbalance": "{name}: the currents of the phases differ by {value}, more than {limit}.",
    "alarm_overload": "{name} carries {value}, more than the {limit} it is rated for.",
    "alarm_reverse_power": (
        "{name}: {value} flow back towards the grid. Without generation behind it, a current transformer is reversed."
    ),
    "alarm_stuck_meter": "{name}: the energy register stands still, although {value} should have been counted.",
    "alarm_communication_lost": "{name} does not answer.",
    "alarm_line_lost": "The line {name} is lost: {problem}",
    "alarm_data_gap": "{name}: {value} of the last 24 hours are missing.",
    "alarm_report_failed": "The report “{schedule}” for {period} could not be made: {reason}",
    "alarm_other": "{name}: {kind}: {value}; the limit is {limit}.",
    "alarm_no_reason": "no reason is known",
    # what alarms are called
    "kind_high_power": "high power",
    "kind_daily_budget": "daily budget exceeded",
    "kind_high_consumption": "unusually high consumption",
    "kind_demand_near_contract": "demand near the contract",
    "kind_demand_over_contract": "demand over the contract",
    "kind_low_power_factor": "low power factor",
    "kind_over_voltage": "over-voltage",
    "kind_under_voltage": "under-voltage",
    "kind_phase_loss": "phase loss",
    "kind_current_unbalance": "current unbalance",
    "kind_overload": "overload",
    "kind_reverse_power": "reverse power",
    "kind_stuck_meter": "meter stands still",
    "kind_communication_lost": "meter does not answer",
    "kind_line_lost": "line lost",
    "kind_data_gap": "data missing",
    "kind_report_failed": "report failed",
    # alarm rules, and what people do with alarms
    "rule_unknown": "There is no alarm rule {kind}; there are {kinds}.",
    "rule_scope": '"{scope}" is no scope of an alarm rule; scopes are {scopes}.',
    "rule_number": "{key} = {value} of the alarm rule {kind} must be a number, a delay of 0 or more.",
    "rule_bounds": "{key} = {value} of the alarm rule {kind} must lie between {least} and {most}.",
    "rule_no_level": "The alarm rule {kind} has no level, so it takes no {key}.",
    "rule_reversed": (
        "The alarm rule {kind} would never return: its drop-out {dropout} lies beyond its pick-up {pickup}."
    ),
    "rule_lacks": "The alarm rule {kind} cannot work at {name}, which has no {missing}.",
    "rests_off": "It is switched off.",
    "rests_limit": "It has no limit: set its pick-up.",
    "rests_attribute": "The point has no {missing}: fill that in.",
    "rests_unread": "The meter has {missing}, but it is not read at this detail: set the rule for the point, its area, "
    "its line or the site, or choose a higher detail.",
    "rests_meter": "The meter has no {missing}.",
    "rests_virtual": "A virtual point has energies only, and no {missing}.",
    "rests_no_meter": "It is about a meter on a line, and there is none here.",
    "rests_generates": "Power may flow back here: the point is marked as generation.",
    "finding_unknown": "There is no open alarm {id}; it may have returned to normal meanwhile.",
    "shelve_past": "The time until which an alarm is shelved must be to come.",
    # why a meter is silent or wrong, and what to do
    "diagnosis_meter_off": "No reply comes from the meter at {address}, although the question fits.",
    "cure_meter_off": (
        "Check that the meter has power and its display is on, then its fuse and the terminals of its "
        "communication line."
    ),
    "meter_off_gateway": "The gateway says that the meter at {address} does not answer it.",
    "perhaps": "Perhaps: {what}",
    "baud_unheard": "The meter at {address} may send at another speed than {baud} baud.",
    "parity_unheard": "The meter at {address} may be set to another parity than {parity}.",
    "diagnosis_wiring": "Nothing gets through between the line and the meter at {address}.",
    "cure_wiring": (
        "Check the two wires from the neighbouring meter on: A and B swapped, a loose terminal, a broken wire, "
        "no or too many terminating resistors."
    ),
    "diagnosis_address": "Nobody answers at {address}; the meter probably has another address (heard: {other}).",
    "address_unheard": "Nobody answers at {address}; perhaps the meter has another address.",
    "address_perhaps": (
        "Perhaps the meter at {address} has another address (heard: {other}, if none of these is another meter)."
    ),
    "address_cut": (
        "Nobody answers at {address}; the meter probably has another address (heard: {other}; the search was ended by "
        "its time, so there may be more)."
    ),
    "cure_address": "Read the address on the meter's display or name-plate and enter it, or scan the line.",
    "diagnosis_baud": "What comes cannot be read at {baud} baud: the meter at {address} sends at another speed.",
    "cure_baud": "Set line and meter to the same baud rate; the meter shows its own in its communication menu.",
    "diagnosis_parity": "What comes is damaged as a wrong parity damages it; the line is set to {parity}.",
    "cure_parity": "Set line and meter to the same parity and stop bits; often 8E1 for DL/T 645 and 8N1 for Modbus.",
    "diagnosis_noise": "Replies of the meter at {address} are damaged at random.",
    "cure_noise": (
        "Look for interference: keep the cable away from power cables and drives, connect the shield on one "
        "side, use terminating resistors at both ends, try a lower baud rate."
    ),
    "diagnosis_truncated": "Replies of the meter at {address} break off before their end.",
    "cure_truncated": (
        "Look at the adapter or gateway: its frame length and packet time-out must let a whole reply pass; a "
        "weak supply of the meter does this too."
    ),
    "diagnosis_gateway": "The gateway finds no way to the meter at {address}.",
    "cure_gateway": (
        "Check the gateway: the serial port, unit numbers that it passes on, its own time-out, and whether "
        "another program holds the port. Restart it."
    ),
    "diagnosis_gateway_transaction": "The gateway does not send the transaction numbers of Modbus TCP back.",
    "cure_gateway_transaction": (
        "Replies are told apart by unit, function and length instead, which is safe with one program on the "
        "gateway. Update its firmware, or use Modbus RTU over TCP."
    ),
    "diagnosis_framing": "The far end speaks Modbus in the other framing.",
    "cure_framing": (
        "Change the line from Modbus TCP to Modbus RTU over TCP or the reverse, or set the gateway to the other mode."
    ),
    "diagnosis_echo": "The adapter sends everything back that is sent to it.",
    "cure_echo": (
        "Nothing must be done: the echo is cut off. To save time, switch the receiver off while sending (RTS or "
        "echo setting of the adapter)."
    ),
    "diagnosis_clash": "Two meters answer at the address {address} at the same time.",
    "cure_clash": (
        "Give each meter its own address: disconnect one of the two, change its address, and connect it again."
    ),
    "diagnosis_second_master": (
        "Frames come that answer no question of ours: another master asks on this line (heard: {other})."
    ),
    "second_master_unheard": "Frames come that answer no question of ours: another master asks on this line.",
    "cure_second_master": (
        "Only one program or display may ask on a line: find the other one and disconnect it, or let it read from here."
    ),
    "diagnosis_previous": (
        "The meter at {address} is answered for one question late: replies belong to the question before."
    ),
    "cure_previous": (
        "What does not fit is dropped and asked for again. Restart the gateway, and give its serial port a "
        "longer time-out than the slowest meter needs."
    ),
    "diagnosis_glued": "Replies come together with other frames in one piece.",
    "cure_glued": (
        "Whole frames are told apart. Where a gateway does this, switch off that it gathers packets, or shorten "
        "its packing time."
    ),
    "diagnosis_glitch": "Stray bytes 00 or FF stand beside or inside the replies of the meter at {address}.",
    "cure_glitch": (
        "Beside a reply they are skipped; inside they spoil it, and it is asked for again. They come from "
        "drivers that switch late: bias and terminating resistors, or an adapter with automatic direction "
        "control, stop them."
    ),
    "diagnosis_dtu_prefix": (
        "Text or a number stands before the replies, as DTUs put it there (registration or heart-beat)."
    ),
    "cure_dtu_prefix": (
        "It is skipped where it stands between frames. Set the DTU to send its registration once only, and its "
        "heart-beat not to the serial side."
    ),
    "diagnosis_slow_meter": "The meter at {address} answers slowly: it needs {seconds} s to begin.",
    "cure_slow_meter": (
        "Replies that come late make the line slower. Where a gateway or a radio stands between, raise its "
        "time-out too; otherwise check how busy the meter is."
    ),
    "diagnosis_wrong_template": "The meter at {address} answers, but not as {model} does: it has other registers.",
    "cure_wrong_template": (
        "Choose the model that stands on the name-plate; a scan of the line proposes those that fit."
    ),
    "diagnosis_refuses": "The meter at {address} refuses {count} of the questions for registers of {model}.",
    "cure_refuses": (
        "Nothing must be done: what it has is read in other portions, and what it has not is left out. If values "
        "are missing that its display shows, choose another model."
    ),
    "diagnosis_access_denied": "The meter at {address} wants a password or its programming button for what is asked.",
    "cure_access_denied": (
        "Ask the owner of the meter for the password of this level, or press its programming button, or do not "
        "read these registers."
    ),
    "function_refused": (
        "The meter at {address} refuses whatever is read (exception 01): it is locked, or it wants another function."
    ),
    "cure_function_refused": (
        "Unlock communication in the meter's menu or with its password; if it is not locked, choose the model on the "
        "name-plate, which may read with the other function (03 or 04)."
    ),
    "diagnosis_word_order": "The values make sense with the words of each number in the other order.",
    "cure_word_order": (
        "Change the word order (high word first) in the meter's communication menu, or choose the model that has "
        "the other one."
    ),
    "diagnosis_scale": "The values are wrong by a factor: times {factor} they would be right.",
    "cure_scale": "Choose the right model, or check the CT and PT ratio that is set in the meter itself.",
    "diagnosis_swapped": "Another meter hangs at {address}: its serial number is {serial}, expected was {expected}.",
    "cure_swapped": (
        "Enter the new meter with its serial number and the day of the exchange, so that its register counts "
        "from there."
    ),
    "diagnosis_restarted": "The energy registers of the meter at {address} have fallen to zero.",
    "cure_restarted": (
        "Wait a minute: a meter that restarts shows zero for a moment. If they stay there, the meter was reset "
        "or exchanged: enter that with its day."
    ),
    "diagnosis_phase_lost": "Phase {phase} has no voltage at the meter {address}.",
    "cure_phase_lost": "Check the fuse of this phase, its voltage terminal at the meter, and the supply.",
    "diagnosis_voltage": "The voltage at the meter {address} is {volts} V, which is no usual one.",
    "cure_voltage": (
        "Measure it by hand: if the meter is right, tell the electrician or the utility; else check the PT ratio "
        "and the model."
    ),
    "diagnosis_load": "Power at the meter {address} became {factor} times what it was, at once, and stays there.",
    "cure_load": (
        "If nothing was switched on or off, check the current terminals and the CT ratio; otherwise nothing must "
        "be done."
    ),
    "diagnosis_reversed_ct": "Power flows backwards through {phase} of the meter {address}.",
    "cure_reversed_ct": (
        "Without generation behind it, a current transformer is mounted or connected the wrong way round: turn "
        "it, or swap its S1 and S2. With generation, mark the point as generation."
    ),
    "diagnosis_stuck": (
        "The energy register of the meter {address} stands still, although {energy} kWh should have been counted."
    ),
    "cure_stuck": (
        "Compare with the meter's own display: if that stands still too, the meter is defective and must be exchanged."
    ),
    "diagnosis_clock": "The clock of the meter {address} is off by {offset}.",
    "cure_clock": (
        "Set the clock of the meter; what it keeps in its memory is dated by it. Small errors are put right "
        "automatically where the meter allows it."
    ),
    "clock_zone": (
        "All clocks of this line, that of the meter {address} too, are off by the same whole hours ({offset}): "
        "probably another time zone."
    ),
    "cure_clock_zone": (
        "Check the time zone of this computer first; if it is right, that of the meters' clocks. Nothing else must be "
        "done: what meters keep is read with the offset."
    ),
    "diagnosis_line_cut": "The line itself is cut: {problem}",
    "cure_line_cut": (
        "Check the gateway's supply and network cable, or the adapter's plug; polling goes on by itself when it "
        "is back."
    ),
    "found_baud": "The meter at {address} answers at {baud} baud, {parity}.",
    "found_parity": "The meter at {address} answers with {parity}.",
    "found_framing": "The meter at {address} answers when it is asked in the other framing of Modbus.",
    "found_neighbours": "Nobody answers at {address}, while its neighbours do (heard: {other}).",
    "found_neighbours_cut": (
        "Nobody answers at {address}, while its neighbours do (heard: {other}; the search was ended by its time, so "
        "there may be more)."
    ),
    "energies_disagree": (
        "{name}: its energies were read several times and are different each time; look for interference on the line."
    ),
    "found_edition": "The meter at {address} answers by the rules of DL/T 645-{edition}.",
    "examine_reading": "Reading: {done} of {count} meters are clear, at most {seconds} s left …",
    "examine_settings": (
        "Trying {baud} baud, parity {parity} ({done} of {count} settings done), at most {seconds} s left …"
    ),
    "examine_addresses": "Looking for meters at other addresses: {done} of {count} asked, at most {seconds} s left …",
    # messages between programs
    "wire_newer": (
        "The message is of a newer version of Meter Batch (form {version}, known is {ours}): update this program."
    ),
    "wire_foreign": "That is no message of Meter Batch: {reason}.",
    # several at once
    "list": "{first}, {next}",
    "sequence": "{first} {next}",
}


class Sentence(str):
    """A text that knows its key and what fills it, so that a host can say it in another language.

    `facts` are texts; those that are sentences themselves are translated first.
    """

    __slots__ = ("facts", "key")

    key: str
    facts: Mapping[str, str]


def say(key: str, /, **facts: object) -> Sentence:
    """The English sentence of this key. Facts that are no text become one as `str` does it."""
    return _sentence(key, facts)


def again(sentence: Sentence, /, **facts: object) -> Sentence:
    """The same sentence with some of its facts replaced."""
    return _sentence(sentence.key, {**sentence.facts, **facts})


def received(key: str, facts: Mapping[str, object], text: str) -> str:
    """A sentence that came from elsewhere; its plain text where this version does not know it, or says it otherwise."""
    try:
        return _sentence(key, facts)
    except KeyError:
        return text


def _sentence(key: str, facts: Mapping[str, object]) -> Sentence:
    texts = {name: fact if isinstance(fact, str) else str(fact) for name, fact in facts.items()}
    sentence = Sentence(SENTENCES[key].format(**texts))
    sentence.key, sentence.facts = key, texts
    return sentence


def listed(parts: Iterable[str]) -> str:
    """Parts of a sentence, one after the other."""
    return reduce(lambda first, following: say("list", first=first, next=following), parts)


def together(sentences: Iterable[str]) -> str:
    """Whole sentences, one after the other."""
    return reduce(lambda first, following: say("sequence", first=first, next=following), sentences)
