"""Language: which of eleven languages a sentence is written in; the answer is the language's English name, one word.

Sentences are composed from fragments (subject, verb, object, time or place) that fit together grammatically in every
combination, next to whole sentences. Held-out sentences have other fragments and other patterns, and stand in other
requests.

The scorer drops code fences, backticks, quotes, surrounding whitespace and a trailing full stop, and folds the case.
"""

import random
import re
from dataclasses import dataclass

from experts.domains.base import Domain, Question


@dataclass(frozen=True)
class Grammar:
    """Sentences of one language: fragments separated by "|", an action is "verb~object"; whole sentences by line.

    patterns: sentences with the slots {s} subject, {v} verb, {o} object and {t} time or place.
    """

    patterns: str
    subjects: str
    actions: str
    adverbs: str
    whole: str

    def sentence(self, rng: random.Random) -> str:
        """Compose a sentence or take a whole one."""
        if rng.random() < 0.4:
            return rng.choice(self.whole.strip().splitlines())
        verb, thing = rng.choice(self.actions.split("|")).split("~")
        text = rng.choice(self.patterns.split("|")).format(
            s=rng.choice(self.subjects.split("|")), v=verb, o=thing, t=rng.choice(self.adverbs.split("|"))
        )
        return text[0].upper() + text[1:] + "."


TRAIN_GRAMMARS = {
    "English": Grammar(
        "{s} {v} {o} {t}|{t}, {s} {v} {o}",
        "my sister|the old teacher|our neighbour|the young doctor|a friend of mine|the baker|her grandmother"
        "|the bus driver"
        "|the little girl|his uncle|the new student|the manager",
        "buys~fresh bread|reads~a thick book|cleans~the whole kitchen|writes~a long letter|drinks~a cup of tea"
        "|is looking for~a red coat"
        "|sells~used bicycles|paints~the garden fence|repairs~the broken clock|cooks~vegetable soup"
        "|forgets~the house keys"
        "|watches~an old film|carries~two heavy bags|feeds~the hungry cat|closes~the windows|plans~a short trip",
        "in the morning|on Mondays|after work|every week|during the holidays|before dinner|at the weekend"
        "|in the summer|today"
        "|twice a month",
        """
I don't know where they went.
Have you already eaten?
We should have left much earlier.
It's been raining since yesterday.
Could you help me with this, please?
There is nothing in the fridge.
She told me that you were ill.
Nobody wanted to stay longer.
What time does the train leave?
If I had more money, I would travel.
These shoes are too small for him.
Please don't forget your umbrella.
Who are those people over there?
I have never been so tired.
""",
    ),
    "French": Grammar(
        "{s} {v} {o} {t}|{t}, {s} {v} {o}",
        "ma sœur|le vieux professeur|notre voisin|la jeune médecin|le boulanger|sa grand-mère|le chauffeur de bus"
        "|la petite fille"
        "|mon oncle|le nouvel élève|la directrice|un ami de Paul",
        "achète~du pain frais|lit~un gros livre|nettoie~toute la cuisine|écrit~une longue lettre|boit~une tasse de thé"
        "|cherche~un manteau rouge|vend~des vélos d'occasion|peint~la clôture du jardin|répare~l'horloge cassée"
        "|prépare~une soupe de légumes|oublie~les clés de la maison|regarde~un vieux film|porte~deux sacs lourds"
        "|nourrit~le chat affamé|ferme~les fenêtres|prévoit~un court voyage",
        "le matin|le lundi|après le travail|chaque semaine|pendant les vacances|avant le dîner|le week-end|en été"
        "|aujourd'hui"
        "|deux fois par mois",
        """
Je ne sais pas où ils sont allés.
Est-ce que tu as déjà mangé ?
Nous aurions dû partir plus tôt.
Il pleut depuis hier.
Pourriez-vous m'aider, s'il vous plaît ?
Il n'y a rien dans le frigo.
Elle m'a dit que vous étiez malade.
Personne ne voulait rester.
À quelle heure part le train ?
Si j'avais plus d'argent, je voyagerais.
Ces chaussures sont trop petites pour lui.
N'oublie pas ton parapluie.
Qui sont ces gens là-bas ?
Je n'ai jamais été aussi fatigué.
""",
    ),
    "German": Grammar(
        "{s} {v} {t} {o}|{t} {v} {s} {o}",
        "meine Schwester|der alte Lehrer|unser Nachbar|die junge Ärztin|der Bäcker|ihre Großmutter|der Busfahrer"
        "|das kleine Mädchen"
        "|mein Onkel|die neue Schülerin|der Chef|ein Freund von mir",
        "kauft~frisches Brot|liest~ein dickes Buch|putzt~die ganze Küche|schreibt~einen langen Brief"
        "|trinkt~eine Tasse Tee"
        "|sucht~einen roten Mantel|verkauft~gebrauchte Fahrräder|streicht~den Gartenzaun|repariert~die kaputte Uhr"
        "|kocht~eine Gemüsesuppe|vergisst~die Hausschlüssel|sieht~einen alten Film|trägt~zwei schwere Taschen"
        "|füttert~die hungrige Katze|schließt~die Fenster|plant~eine kurze Reise",
        "am Morgen|montags|nach der Arbeit|jede Woche|in den Ferien|vor dem Abendessen|am Wochenende|im Sommer|heute"
        "|zweimal im Monat",
        """
Ich weiß nicht, wohin sie gegangen sind.
Hast du schon gegessen?
Wir hätten viel früher losfahren sollen.
Es regnet seit gestern.
Könnten Sie mir bitte helfen?
Im Kühlschrank ist nichts mehr.
Sie hat mir gesagt, dass ihr krank wart.
Niemand wollte länger bleiben.
Um wie viel Uhr fährt der Zug ab?
Wenn ich mehr Geld hätte, würde ich reisen.
Diese Schuhe sind ihm zu klein.
Vergiss deinen Regenschirm nicht.
Wer sind diese Leute dort drüben?
Ich war noch nie so müde.
""",
    ),
    "Spanish": Grammar(
        "{s} {v} {o} {t}|{t}, {s} {v} {o}",
        "mi hermana|el viejo profesor|nuestro vecino|la joven doctora|el panadero|su abuela|el conductor del autobús"
        "|la niña pequeña"
        "|mi tío|el nuevo alumno|la directora|un amigo mío",
        "compra~pan fresco|lee~un libro gordo|limpia~toda la cocina|escribe~una carta larga|bebe~una taza de té"
        "|busca~un abrigo rojo|vende~bicicletas usadas|pinta~la valla del jardín|repara~el reloj roto"
        "|prepara~una sopa de verduras|olvida~las llaves de casa|ve~una película antigua|lleva~dos bolsas pesadas"
        "|alimenta~al gato hambriento|cierra~las ventanas|planea~un viaje corto",
        "por la mañana|los lunes|después del trabajo|cada semana|durante las vacaciones|antes de cenar"
        "|los fines de semana|en verano"
        "|hoy|dos veces al mes",
        """
No sé adónde han ido.
¿Ya has comido?
Deberíamos haber salido mucho antes.
Llueve desde ayer.
¿Podría ayudarme con esto, por favor?
No hay nada en la nevera.
Ella me dijo que estabas enfermo.
Nadie quería quedarse más tiempo.
¿A qué hora sale el tren?
Si tuviera más dinero, viajaría.
Estos zapatos son demasiado pequeños para él.
No olvides tu paraguas.
¿Quiénes son aquellas personas?
Nunca he estado tan cansado.
""",
    ),
    "Italian": Grammar(
        "{s} {v} {o} {t}|{t}, {s} {v} {o}",
        "mia sorella|il vecchio professore|il nostro vicino|la giovane dottoressa|il fornaio|sua nonna"
        "|l'autista dell'autobus|la bambina"
        "|mio zio|il nuovo studente|la direttrice|un mio amico",
        "compra~del pane fresco|legge~un grosso libro|pulisce~tutta la cucina|scrive~una lunga lettera"
        "|beve~una tazza di tè"
        "|cerca~un cappotto rosso|vende~biciclette usate|dipinge~la staccionata del giardino|ripara~l'orologio rotto"
        "|prepara~una zuppa di verdure|dimentica~le chiavi di casa|guarda~un vecchio film|porta~due borse pesanti"
        "|nutre~il gatto affamato|chiude~le finestre|organizza~un breve viaggio",
        "la mattina|il lunedì|dopo il lavoro|ogni settimana|durante le vacanze|prima di cena|nel fine settimana"
        "|d'estate|oggi"
        "|due volte al mese",
        """
Non so dove siano andati.
Hai già mangiato?
Saremmo dovuti partire molto prima.
Piove da ieri.
Potrebbe aiutarmi, per favore?
Non c'è niente nel frigorifero.
Lei mi ha detto che eri malato.
Nessuno voleva restare più a lungo.
A che ora parte il treno?
Se avessi più soldi, viaggerei.
Queste scarpe sono troppo piccole per lui.
Non dimenticare l'ombrello.
Chi sono quelle persone laggiù?
Non sono mai stato così stanco.
""",
    ),
    "Portuguese": Grammar(
        "{s} {v} {o} {t}|{t}, {s} {v} {o}",
        "a minha irmã|o velho professor|o nosso vizinho|a jovem médica|o padeiro|a avó dela|o motorista|a menina"
        "|o meu tio"
        "|o novo aluno|a diretora|um amigo meu",
        "compra~pão fresco|lê~um livro grosso|limpa~a cozinha toda|escreve~uma carta longa|bebe~uma xícara de chá"
        "|procura~um casaco vermelho|vende~bicicletas usadas|pinta~a cerca do jardim|conserta~o relógio quebrado"
        "|prepara~uma sopa de legumes|esquece~as chaves de casa|vê~um filme antigo|carrega~duas sacolas pesadas"
        "|alimenta~o gato faminto|fecha~as janelas|planeja~uma viagem curta",
        "de manhã|às segundas-feiras|depois do trabalho|toda semana|durante as férias|antes do jantar"
        "|no fim de semana|no verão|hoje"
        "|duas vezes por mês",
        """
Não sei para onde eles foram.
Você já comeu?
Devíamos ter saído muito mais cedo.
Está chovendo desde ontem.
Poderia me ajudar com isto, por favor?
Não há nada na geladeira.
Ela me disse que você estava doente.
Ninguém queria ficar mais tempo.
A que horas parte o trem?
Se eu tivesse mais dinheiro, viajaria.
Estes sapatos são pequenos demais para ele.
Não se esqueça do guarda-chuva.
Quem são aquelas pessoas ali?
Eu nunca estive tão cansado.
""",
    ),
    "Dutch": Grammar(
        "{s} {v} {t} {o}|{t} {v} {s} {o}",
        "mijn zus|de oude leraar|onze buurman|de jonge dokter|de bakker|haar oma|de buschauffeur|het kleine meisje"
        "|mijn oom"
        "|de nieuwe leerling|de directeur|een vriend van mij",
        "koopt~vers brood|leest~een dik boek|poetst~de hele keuken|schrijft~een lange brief|drinkt~een kopje thee"
        "|zoekt~een rode jas|verkoopt~tweedehands fietsen|verft~het tuinhek|repareert~de kapotte klok|kookt~groentesoep"
        "|vergeet~de huissleutels|bekijkt~een oude film|draagt~twee zware tassen|voert~de hongerige kat|sluit~de ramen"
        "|plant~een korte reis",
        "in de ochtend|op maandag|na het werk|elke week|in de vakantie|voor het avondeten|in het weekend|in de zomer"
        "|vandaag"
        "|twee keer per maand",
        """
Ik weet niet waar ze naartoe zijn gegaan.
Heb je al gegeten?
We hadden veel eerder moeten vertrekken.
Het regent sinds gisteren.
Kunt u mij hiermee helpen, alstublieft?
Er ligt niets in de koelkast.
Ze heeft me verteld dat jullie ziek waren.
Niemand wilde langer blijven.
Hoe laat vertrekt de trein?
Als ik meer geld had, zou ik reizen.
Deze schoenen zijn te klein voor hem.
Vergeet je paraplu niet.
Wie zijn die mensen daar?
Ik ben nog nooit zo moe geweest.
""",
    ),
    "Swedish": Grammar(
        "{s} {v} {o} {t}|{t} {v} {s} {o}",
        "min syster|den gamle läraren|vår granne|den unga läkaren|bagaren|hennes mormor|busschauffören"
        "|den lilla flickan|min farbror"
        "|den nya eleven|chefen|en vän till mig",
        "köper~färskt bröd|läser~en tjock bok|städar~hela köket|skriver~ett långt brev|dricker~en kopp te"
        "|letar~efter en röd kappa"
        "|säljer~begagnade cyklar|målar~staketet i trädgården|lagar~den trasiga klockan|kokar~grönsakssoppa"
        "|glömmer~husnycklarna|ser~en gammal film|bär~två tunga väskor|matar~den hungriga katten|stänger~fönstren"
        "|planerar~en kort resa",
        "på morgonen|på måndagar|efter jobbet|varje vecka|under semestern|före middagen|på helgen|på sommaren|idag"
        "|två gånger i månaden",
        """
Jag vet inte vart de har gått.
Har du redan ätit?
Vi borde ha åkt mycket tidigare.
Det har regnat sedan igår.
Skulle du kunna hjälpa mig med det här?
Det finns ingenting i kylskåpet.
Hon sa till mig att ni var sjuka.
Ingen ville stanna längre.
Hur dags går tåget?
Om jag hade mer pengar skulle jag resa.
De här skorna är för små för honom.
Glöm inte ditt paraply.
Vilka är människorna där borta?
Jag har aldrig varit så trött.
""",
    ),
    "Polish": Grammar(
        "{s} {v} {o} {t}|{t} {s} {v} {o}",
        "moja siostra|stary nauczyciel|nasz sąsiad|młoda lekarka|piekarz|jej babcia|kierowca autobusu"
        "|mała dziewczynka|mój wujek"
        "|nowy uczeń|dyrektorka|mój przyjaciel",
        "kupuje~świeży chleb|czyta~grubą książkę|sprząta~całą kuchnię|pisze~długi list|pije~filiżankę herbaty"
        "|szuka~czerwonego płaszcza|sprzedaje~używane rowery|maluje~płot w ogrodzie|naprawia~zepsuty zegar"
        "|gotuje~zupę jarzynową|zostawia~klucze w domu|ogląda~stary film|niesie~dwie ciężkie torby|karmi~głodnego kota"
        "|zamyka~okna|planuje~krótką podróż",
        "rano|w poniedziałki|po pracy|co tydzień|w czasie wakacji|przed kolacją|w weekend|latem|dzisiaj"
        "|dwa razy w miesiącu",
        """
Nie wiem, dokąd oni poszli.
Czy już jadłeś?
Powinniśmy byli wyjechać dużo wcześniej.
Od wczoraj pada deszcz.
Czy może mi pan w tym pomóc?
W lodówce nic nie ma.
Ona powiedziała mi, że byliście chorzy.
Nikt nie chciał zostać dłużej.
O której godzinie odjeżdża pociąg?
Gdybym miał więcej pieniędzy, podróżowałbym.
Te buty są dla niego za małe.
Nie zapomnij parasola.
Kim są tamci ludzie?
Jeszcze nigdy nie byłem taki zmęczony.
""",
    ),
    "Turkish": Grammar(
        "{s} {t} {o} {v}|{t} {s} {o} {v}",
        "kız kardeşim|yaşlı öğretmen|komşumuz|genç doktor|fırıncı|onun büyükannesi|otobüs şoförü|küçük kız|amcam"
        "|yeni öğrenci|müdür"
        "|bir arkadaşım",
        "alıyor~taze ekmek|okuyor~kalın bir kitap|temizliyor~bütün mutfağı|yazıyor~uzun bir mektup"
        "|içiyor~bir bardak çay"
        "|arıyor~kırmızı bir palto|satıyor~ikinci el bisiklet|boyuyor~bahçe çitini|tamir ediyor~bozuk saati"
        "|pişiriyor~sebze çorbası|unutuyor~evin anahtarlarını|izliyor~eski bir film|taşıyor~iki ağır çanta"
        "|besliyor~aç kediyi"
        "|kapatıyor~pencereleri|planlıyor~kısa bir gezi",
        "sabahları|pazartesi günleri|mesaiden sonra|her hafta|tatilde|akşam yemeğinden önce|hafta sonu|yazın|bugün"
        "|ayda iki kez",
        """
Nereye gittiklerini bilmiyorum.
Yemek yedin mi?
Çok daha erken çıkmalıydık.
Dünden beri yağmur yağıyor.
Bana yardım edebilir misiniz, lütfen?
Buzdolabında hiçbir şey yok.
Hasta olduğunuzu bana o söyledi.
Kimse daha fazla kalmak istemedi.
Tren saat kaçta kalkıyor?
Daha çok param olsaydı seyahat ederdim.
Bu ayakkabılar ona çok küçük.
Şemsiyeni unutma.
Oradaki insanlar kim?
Hiç bu kadar yorgun olmamıştım.
""",
    ),
    "Finnish": Grammar(
        "{s} {v} {o} {t}|{t} {s} {v} {o}",
        "siskoni|vanha opettaja|naapurimme|nuori lääkäri|leipuri|hänen isoäitinsä|bussinkuljettaja|pieni tyttö|setäni"
        "|uusi oppilas"
        "|johtaja|eräs ystäväni",
        "ostaa~tuoretta leipää|lukee~paksua kirjaa|siivoaa~koko keittiön|kirjoittaa~pitkää kirjettä|juo~kupin teetä"
        "|etsii~punaista takkia|myy~käytettyjä polkupyöriä|maalaa~puutarhan aitaa|korjaa~rikkinäistä kelloa"
        "|keittää~kasviskeittoa"
        "|unohtaa~kotiavaimet|katsoo~vanhaa elokuvaa|kantaa~kahta raskasta laukkua|ruokkii~nälkäistä kissaa"
        "|sulkee~ikkunat"
        "|suunnittelee~lyhyttä matkaa",
        "aamulla|maanantaisin|töiden jälkeen|joka viikko|lomalla|ennen illallista|viikonloppuna|kesällä|tänään"
        "|kaksi kertaa kuussa",
        """
En tiedä, minne he menivät.
Oletko jo syönyt?
Meidän olisi pitänyt lähteä paljon aikaisemmin.
Eilisestä asti on satanut.
Voisitteko auttaa minua tässä?
Jääkaapissa ei ole mitään.
Hän kertoi minulle, että olitte sairaita.
Kukaan ei halunnut jäädä pidempään.
Mihin aikaan juna lähtee?
Jos minulla olisi enemmän rahaa, matkustaisin.
Nämä kengät ovat hänelle liian pienet.
Älä unohda sateenvarjoasi.
Keitä nuo ihmiset ovat?
En ole koskaan ollut näin väsynyt.
""",
    ),
}

HELD_GRAMMARS = {
    "English": Grammar(
        "I think {s} {v} {o} {t}|probably {s} {v} {o} {t}",
        "the carpenter|my cousin|this nurse|the mayor|our guide",
        "orders~black coffee|borrows~a wooden ladder|hides~the birthday present|grows~tomatoes and beans"
        "|explains~the strange rule"
        "|washes~a pile of shirts",
        "near the station|behind the church|in a quiet village|by the river|next to the harbour",
        "Why didn't anyone call the police?\nHer answer surprised the whole audience.\nThe snow had melted by April.",
    ),
    "French": Grammar(
        "je crois que {s} {v} {o} {t}|tu vois bien que {s} {v} {o} {t}",
        "le charpentier|mon cousin|cette infirmière|le maire|notre guide",
        "commande~un café noir|emprunte~une échelle en bois|cache~le cadeau d'anniversaire"
        "|cultive~des tomates et des haricots"
        "|explique~cette règle étrange|lave~une pile de chemises",
        "près de la gare|derrière l'église|dans un village tranquille|au bord du fleuve|à côté du port",
        "Pourquoi personne n'a appelé la police ?\nSa réponse a surpris tout le public.\nLa neige avait fondu en "
        "avril.",
    ),
    "German": Grammar(
        "ich glaube, {s} {v} {o} {t}|wahrscheinlich {v} {s} {o} {t}",
        "der Tischler|mein Cousin|diese Krankenschwester|der Bürgermeister|unsere Reiseleiterin",
        "bestellt~schwarzen Kaffee|benutzt~eine Leiter aus Holz|versteckt~das Geburtstagsgeschenk"
        "|erntet~Tomaten und Bohnen"
        "|erklärt~die seltsame Regel|wäscht~einen Stapel Hemden",
        "neben dem Bahnhof|hinter der Kirche|in einem ruhigen Dorf|am Fluss|am Hafen",
        "Warum hat keiner die Polizei gerufen?\nIhre Antwort überraschte das gesamte Publikum.\nDer Schnee war bis "
        "April geschmolzen.",
    ),
    "Spanish": Grammar(
        "creo que {s} {v} {o} {t}|dicen que {s} {v} {o} {t}",
        "el carpintero|mi primo|esta enfermera|el alcalde|nuestra guía",
        "pide~un café solo|usa~una escalera de madera|esconde~el regalo de cumpleaños|cultiva~tomates y judías"
        "|explica~la extraña regla|lava~un montón de camisas",
        "cerca de la estación|detrás de la iglesia|en un pueblo tranquilo|junto al río|al lado del puerto",
        "¿Por qué no llamó nadie a la policía?\nSu respuesta sorprendió a todo el público.\nLa nieve ya se había "
        "derretido en abril.",
    ),
    "Italian": Grammar(
        "so che {s} {v} {o} {t}|forse {s} {v} {o} {t}",
        "il falegname|mio cugino|questa infermiera|il sindaco|la nostra guida",
        "ordina~un caffè amaro|usa~una scala di legno|nasconde~il regalo di compleanno|coltiva~pomodori e fagioli"
        "|spiega~quella strana regola|lava~un mucchio di camicie",
        "vicino alla stazione|dietro la chiesa|in un paese tranquillo|lungo il fiume|accanto al porto",
        "Perché non avete chiamato la polizia?\nLa sua risposta sorprese tutto il pubblico.\nAd aprile la neve si era "
        "sciolta.",
    ),
    "Portuguese": Grammar(
        "acho que {s} {v} {o} {t}|dizem que {s} {v} {o} {t}",
        "o carpinteiro|meu primo|esta enfermeira|o prefeito|nossa guia",
        "pede~um café sem açúcar|usa~uma escada de madeira|esconde~o presente de aniversário|cultiva~tomates e feijões"
        "|explica~essa regra estranha|lava~uma pilha de camisas",
        "perto da estação|atrás da igreja|numa aldeia tranquila|à beira do rio|ao lado do porto",
        "Por que vocês não chamaram a polícia?\nA resposta dela surpreendeu todo o público.\nEm abril a neve já tinha "
        "derretido.",
    ),
    "Dutch": Grammar(
        "volgens mij {v} {s} {o} {t}|misschien {v} {s} {o} {t}",
        "de timmerman|mijn neef|deze verpleegster|de burgemeester|onze gids",
        "bestelt~zwarte koffie|gebruikt~een houten ladder|verstopt~het verjaardagscadeau|kweekt~tomaten en bonen"
        "|bespreekt~die vreemde regel|wast~een stapel overhemden",
        "bij het station|achter de kerk|in een rustig dorp|langs de rivier|naast de haven",
        "Waarom heeft iedereen de politie gebeld?\nHaar antwoord verraste het hele publiek.\nDe sneeuw was in april "
        "gesmolten.",
    ),
    "Swedish": Grammar(
        "jag tror att {s} {v} {o} {t}|kanske {v} {s} {o} {t}",
        "snickaren|min kusin|den där sjuksköterskan|borgmästaren|vår guide",
        "beställer~svart kaffe|använder~en stege av trä|gömmer~födelsedagspresenten|odlar~tomater och bönor"
        "|förklarar~den konstiga regeln|tvättar~en hög skjortor",
        "nära stationen|bakom kyrkan|i en lugn by|vid floden|intill hamnen",
        "Varför ringde man inte polisen?\nHennes svar överraskade hela publiken.\nSnön hade smält i april.",
    ),
    "Polish": Grammar(
        "myślę, że {s} {v} {o} {t}|chyba {s} {v} {o} {t}",
        "stolarz|mój kuzyn|ta pielęgniarka|burmistrz|nasza przewodniczka",
        "zamawia~czarną kawę|pożycza~drewnianą drabinę|chowa~prezent urodzinowy|uprawia~pomidory i fasolę"
        "|wyjaśnia~tę dziwną zasadę|pierze~stos koszul",
        "koło dworca|za kościołem|w cichej wsi|nad rzeką|obok portu",
        "Dlaczego ktoś wezwał policję?\nJej odpowiedź zaskoczyła całą publiczność.\nŚnieg stopniał w kwietniu.",
    ),
    "Turkish": Grammar(
        "bence {s} {t} {o} {v}|galiba {s} {t} {o} {v}",
        "marangoz|kuzenim|şu hemşire|belediye başkanı|rehberimiz",
        "sipariş ediyor~sade kahve|kullanıyor~tahta bir merdiven|saklıyor~doğum günü hediyesini"
        "|yetiştiriyor~domates ve fasulye"
        "|açıklıyor~o garip kuralı|yıkıyor~bir yığın gömlek",
        "tren garının yanında|caminin arkasında|sakin bir köyde|nehir kenarında|limana yakın bir yerde",
        "Neden polisi aramadınız?\nVerdiği cevap bütün seyircileri şaşırttı.\nKar nisan ayında erimişti.",
    ),
    "Finnish": Grammar(
        "luulen, että {s} {v} {o} {t}|ehkä {s} {v} {o} {t}",
        "puuseppä|serkkuni|tuo sairaanhoitaja|pormestari|oppaamme",
        "tilaa~mustaa kahvia|lainaa~puisia tikkaita|piilottaa~syntymäpäivälahjan|kasvattaa~tomaatteja ja papuja"
        "|selittää~outoa sääntöä|pesee~pinon paitoja",
        "aseman lähellä|kirkon takana|rauhallisessa kylässä|joen rannalla|sataman vieressä",
        "Miksi poliisia ei kutsuttu?\nHänen vastauksensa yllätti koko yleisön.\nLumi oli sulanut huhtikuussa.",
    ),
}

# {s} is the sentence
TRAIN_TEMPLATES = (
    'Which language is this sentence written in? "{s}" Answer with one word.', "What language is this?\n{s}",
    'Language of "{s}"?', 'Identify the language: "{s}"', "Name the language of this text in one English word.\n\n{s}",
    "{s}\n\nWhat language is that?", '"{s}" - which language?', "Language?\n{s}",
    "Detect the language.\nText: {s}\nLanguage:", 'Tell me what language "{s}" is.',
    "I got this message and can't read it: {s} Which language is it?", "lang id, one word: {s}",
    "{s} - what language is this pls", 'Can you tell which language this is in? "{s}" Just the name.',
    'My neighbour said "{s}" What language does he speak?',
    "In what language is the following sentence?\n\n{s}\n\nOne word, please.", "what language is this: {s}",
    "Guess the language! {s}", "Which tongue is it? {s} Reply with the language only.",
    "Give only the English name of the language: {s}", "Sentence: {s}\nWhich language is the sentence in?",
    'Recognise the language of "{s}" and answer in a single word.',
    "Hi! A customer wrote: {s} What language is it, so that I can find a translator?", "Classify by language: {s}",
    "This was on a postcard: «{s}» Which language could that be?",
    "Is there a name for the language of this line? {s}", "Please identify the language, one word.\n> {s}",
    "Language name only, no translation: {s}", "{s}\nlanguage?",
    "I found this in an old book. {s} In which language is it written?",
    "Don't translate, only say which language it is: \"{s}\"", "The sign says: {s} What language would that be?",
    "Determine the language (single word): {s}", "hey what language is “{s}”",
    "For routing tickets I need the language of this one: {s}", "text: {s} | language:",
)  # fmt: skip
HELD_TEMPLATES = (
    "Somebody left this note at the door. {s} Where do I put it, I mean under which language?",
    "{s} <- name that language, one word", "Label the quote with its language.\nQuote: {s}",
    "A line from a film: “{s}” The actors speak what, in one word?", "Sort this by language, single-word label: {s}",
    "Any idea what they are speaking here? {s} (name of the language only)",
    "Write one word: the language used in “{s}”",
    "Our chat bot could not tell the language of this input: {s} Can you?",
    "Before I open a translator, what do I choose as source language for\n{s}",
    "Quiz night! {s} Spoken in which language?", "The subtitles read “{s}” so the film's language is?",
    "Caption: {s}\nCaption language, as one English word?",
)  # fmt: skip

# (what a person typed, the language)
HUMAN = (
    ("my gran used to say 'Wer rastet, der rostet' all the time. what language was that", "German"),
    ('lol got a text from unknown number: "hola, ¿sigues vendiendo la moto?" what language is it', "Spanish"),
    ("Which language? one word pls. From an email to my landlord: Jag hittade din plånbok på bussen", "Swedish"),
    ("The yoghurt lid says 'po otwarciu przechowywać w chłodnym miejscu'. What language would that be?", "Polish"),
    ('hello, can u tell me what language this is?? "Olen pahoillani, mutta kauppa on jo kiinni."', "Finnish"),
    ("My friend has 'a saudade é o amor que fica' tattooed on her arm. Which language is it, one word", "Portuguese"),
    ("trying to figure out a voicemail. sounded like 'ik bel je morgen wel even terug'. language?", "Dutch"),
    ("Kapıyı kilitlemeyi unutmuşsun yine!   <- whats this language", "Turkish"),
    ("Our waiter wrote 'tutto bene, ragazzi? ci vediamo domani' on the bill. What language did he use? one word",
     "Italian"),
    ('On the wall in the metro: "Attention à la marche en descendant du train". Name the language.', "French"),
    ("is it weird that i cant tell which language it is, 'the bloke upstairs keeps whistling at midnight' one word pls",
     "English"),
    ("found on a jar from my trip, Erdbeermarmelade ohne Zuckerzusatz, nach dem Öffnen kühl lagern. language pls",
     "German"),
    ("what lang: tänk på att golvet kan vara halt när det är blött", "Swedish"),
    ("Email subject is 'Votre colis n'a pas pu être livré'. I suspect spam, but which language is it in?", "French"),
    ("my new flatmate keeps mumbling 'gdzie są moje okulary'. so what does she speak, just the language name",
     "Polish"),
    ("name the language please: Se me cayó el móvil al agua y ahora no enciende", "Spanish"),
    ("The song goes 'quando il sole tramonta, tutto diventa silenzio'. What language is the singer using?", "Italian"),
    ("quick q - 'het spijt me, ik heb je berichtje gisteren gemist' - language, one word", "Dutch"),
    ("I have a letter from 1950, first line: Minulla on sinua kovin ikävä. Which language do I ask a translator for?",
     "Finnish"),
    ('saw this on a tshirt in the market, "amanhã a gente resolve tudo com calma" what language', "Portuguese"),
    ("Dad's old radio just said 'yarın sabah kar bekleniyor, dikkatli olun'. Language?", "Turkish"),
    ('one word answer: language of "We ran out of milk again, typical"', "English"),
)  # fmt: skip


def train(rng: random.Random, n: int) -> list[Question]:
    """Return n distinct training questions."""
    questions: dict[str, Question] = {}
    while len(questions) < n:
        template = rng.choice(TRAIN_TEMPLATES)
        if rng.random() < 0.25:
            template = _noise(rng, template)
        question = _ask(rng, template, TRAIN_GRAMMARS)
        questions.setdefault(question.prompt.casefold(), question)
    return list(questions.values())


def held_out(rng: random.Random, n: int) -> list[Question]:
    """Return n distinct held-out questions, the hand-written ones first."""
    questions = {prompt.casefold(): Question(prompt, answer, "human") for prompt, answer in HUMAN[:n]}
    while len(questions) < n:
        question = _ask(rng, rng.choice(HELD_TEMPLATES), HELD_GRAMMARS)
        questions.setdefault(question.prompt.casefold(), question)
    return list(questions.values())


def score(question: Question, output: str) -> bool:
    """Is the output the language's English name, apart from case, fences, quotes, whitespace and a full stop?"""
    text = re.sub(r"```\w*", " ", output).replace("`", " ").strip().strip("\"'").rstrip(".").strip("\"' ")
    return text.casefold() == question.answer.casefold()


def _ask(rng: random.Random, template: str, grammars: dict[str, Grammar]) -> Question:
    """Draw a language and one of its sentences, and fill the template; the sentence may lose its full stop."""
    language = rng.choice(list(grammars))
    sentence = grammars[language].sentence(rng)
    if rng.random() < 0.3 and re.search(r"\{s\}($|[\"”»\n]| -| <| \|)", template):
        sentence = sentence.removesuffix(".")
    return Question(template.replace("{s}", sentence), language)


def _noise(rng: random.Random, template: str, keep: frozenset[str] = frozenset()) -> str:
    """Spoil a template lightly: lower case, no closing punctuation, or two letters swapped in a word outside `keep`."""
    kind = rng.randrange(3)
    if kind == 0:
        return template.lower()
    if kind == 1:
        return template.rstrip(".?!")
    words = template.split(" ")
    plain = [i for i, word in enumerate(words) if len(word) > 4 and word.isalpha() and word.lower() not in keep]
    if plain:
        i = rng.choice(plain)
        at = rng.randrange(1, len(words[i]) - 2)
        words[i] = words[i][:at] + words[i][at + 1] + words[i][at] + words[i][at + 2 :]
    return " ".join(words)


DOMAIN = Domain(
    name="language",
    summary="Say which of eleven languages a sentence is written in.",
    train=train,
    held_out=held_out,
    score=score,
    max_tokens=8,
    examples=2048,
)
